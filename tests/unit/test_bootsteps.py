"""Boot steps: their order, what is included, which hooks are called where, and what is done about errors."""

from __future__ import annotations

import asyncio
import itertools
import sys
import threading
import time
import types
from collections.abc import Iterator
from typing import Any

import pytest

from commands import memory_app
from umbel import bootsteps
from umbel.bootsteps import Blueprint, HookThread, StartStopStep, Step, draw, order_steps
from umbel.brokers.base import Listener, Note
from umbel.errors import BrokerError, StepError, UmbelError
from umbel.worker import components, consumer


class Parent:
    def __init__(self) -> None:
        self.steps: list[StartStopStep] = []
        self.calls: list[str] = []


class Noted(StartStopStep):
    """Notes its hooks with the parent."""

    def start(self, parent: Parent) -> None:
        parent.calls.append(f"start {self.alias}")

    def close(self, parent: Parent) -> None:
        parent.calls.append(f"close {self.alias}")

    def stop(self, parent: Parent) -> None:
        parent.calls.append(f"stop {self.alias}")

    def shutdown(self, parent: Parent) -> None:
        parent.calls.append(f"shutdown {self.alias}")


class First(Noted):
    pass


class Second(Noted):
    requires = (First,)


class Third(Noted):
    requires = ("Second",)


def names(order: Any) -> list[str]:
    return [step.__name__ for step in order]


def make_step(step_name: str, base: type[Step] = Noted, **members: Any) -> type[Step]:
    return type(step_name, (base,), members)


async def live(blueprint: Blueprint, parent: Parent, **stop: Any) -> None:
    await blueprint.start(parent)
    await blueprint.close(parent)
    await blueprint.stop(parent, **stop)
    await blueprint.shutdown(parent)


def run(blueprint: Blueprint, parent: Parent, **stop: Any) -> None:
    asyncio.run(live(blueprint, parent, **stop))


# -- order -----------------------------------------------------------------------------------------


def test_a_step_starts_after_what_it_requires() -> None:
    assert names(order_steps([Third, Second, First], "x")) == ["First", "Second", "Third"]


def test_what_is_required_is_added() -> None:
    assert names(order_steps([Second], "x")) == ["First", "Second"]


def test_the_order_is_the_same_in_every_run() -> None:
    steps = [make_step(name) for name in "dacb"]
    assert names(order_steps(set(steps), "x")) == ["a", "b", "c", "d"]
    assert names(order_steps(set(steps), "x", own=[steps[3]])) == ["b", "a", "c", "d"]


@pytest.fixture
def module() -> Iterator[types.ModuleType]:
    made = types.ModuleType("a_module_of_steps")
    made.__dict__.update(First=First, function=len)
    sys.modules[made.__name__] = made
    yield made
    del sys.modules[made.__name__]


@pytest.mark.parametrize("required", ["a_module_of_steps:First", "a_module_of_steps.First"])
def test_steps_are_named_by_module_and_class(module: types.ModuleType, required: str) -> None:
    step = make_step("Needing", requires=(required,))
    assert names(order_steps([step], "x")) == ["First", "Needing"]
    assert names(order_steps([required], "x")) == ["First"]


def test_steps_are_named_by_label() -> None:
    labelled = make_step("Long", label="short")
    assert names(order_steps([labelled, make_step("Needing", requires=("short",))], "x")) == ["Long", "Needing"]


@pytest.mark.parametrize("required", ["celery.worker.components:Pool", "celery.worker:Pool", "Pool"])
def test_celerys_names_of_steps_are_known(required: str) -> None:
    order = order_steps([make_step("Mine", requires=(required,))], "worker", components.STEPS)
    assert names(order) == ["Signals", "Timer", "Health", "Pool", "Mine", "Consumer"]


@pytest.mark.parametrize("required", ["celery.worker.consumer:Connection", "celery.worker.consumer.tasks:Tasks"])
def test_celerys_names_of_steps_of_the_consumer_are_known(required: str) -> None:
    order = order_steps([make_step("Mine", requires=(required,))], "consumer", consumer.STEPS)
    assert set(names(order)) == {step.__name__ for step in consumer.STEPS} | {"Mine"}


def test_the_last_step_follows_all_that_do_not_need_it() -> None:
    last = make_step("Last", last=True)
    after = make_step("After", requires=(last,))
    assert names(order_steps([after, make_step("Zzz"), last, Second], "x")) == [
        "First",
        "Zzz",
        "Second",
        "Last",
        "After",
    ]


def test_two_last_steps() -> None:
    with pytest.raises(StepError, match=r"only one step of the x can be the last: .*A and .*B"):
        order_steps([make_step("A", last=True), make_step("B", last=True)], "x")


def test_a_circle_is_named() -> None:
    a, b, c = (make_step(name) for name in "abc")
    a.requires, b.requires, c.requires = (b,), (c,), (a,)
    with pytest.raises(StepError, match="steps of the worker require each other in a circle") as caught:
        order_steps([a], "worker")
    circle = str(caught.value).split(": ")[1].split(" requires ")
    assert circle[0] == circle[-1] and len(circle) == 4
    needed = {a.name: b.name, b.name: c.name, c.name: a.name}
    assert all(needed[one] == other for one, other in itertools.pairwise(circle))


def test_a_step_that_requires_itself() -> None:
    step = make_step("Selfish")
    step.requires = (step,)
    with pytest.raises(StepError, match=r"Selfish requires \S*Selfish"):
        order_steps([step], "x")


@pytest.mark.parametrize(
    ("required", "says"),
    [
        ("Nope", "asks for 'Nope', but the worker has no such step; it has Signals, Health, Timer, Pool, Consumer"),
        ("celery.worker.consumer:Gossip", "the worker has no such step"),
        ("no_such_module:Step", "no module 'no_such_module'"),
        ("a_module_of_steps:Nope", "no class of steps"),
        ("a_module_of_steps:function", "no class of steps"),
        (42, "names 42, which is neither"),
        (object, "neither a class of steps nor the name of one"),
        (consumer.Connection, "belongs to the consumer"),
    ],
)
def test_unknown_requirements(module: types.ModuleType, required: Any, says: str) -> None:
    with pytest.raises(StepError, match=says):
        order_steps([make_step("Mine", requires=(required,))], "worker", components.STEPS)


def test_what_is_no_step_cannot_be_added() -> None:
    with pytest.raises(StepError, match=r"app.steps names <step: .*First>, which is neither"):
        order_steps([First(None)], "x")  # type: ignore[list-item]


# -- life ------------------------------------------------------------------------------------------


def test_hooks_are_called_in_order() -> None:
    parent = Parent()
    blueprint = Blueprint([Second], "x")
    assert blueprint.human_state() == "initializing"
    blueprint.apply(parent)
    run(blueprint, parent)
    assert parent.calls == [
        "start First",
        "start Second",
        "close Second",
        "close First",
        "stop Second",
        "stop First",
        "shutdown Second",
        "shutdown First",
    ]


def test_steps_may_be_started_again() -> None:
    parent = Parent()
    blueprint = Blueprint([First], "x")
    blueprint.apply(parent)

    async def twice() -> None:
        for _ in range(2):
            await blueprint.start(parent)
            await blueprint.stop(parent)
        await blueprint.shutdown(parent)

    asyncio.run(twice())
    assert parent.calls == ["start First", "stop First"] * 2 + ["shutdown First"]


def test_a_step_takes_the_options_that_it_names() -> None:
    got: dict[str, Any] = {}

    class Some(Step):
        def __init__(self, parent: Any, level: int = 0) -> None:
            got["some"] = level

    class All(Step):
        def __init__(self, parent: Any, **options: Any) -> None:
            got["all"] = options

    Blueprint([Some, All], "x").apply(Parent(), level=3, other="o")
    assert got == {"some": 3, "all": {"level": 3, "other": "o"}}


def test_all_steps_are_made_before_any_is_created() -> None:
    seen: list[str] = []

    class Early(Step):
        def __init__(self, parent: Any) -> None:
            seen.append("make Early")

        def create(self, parent: Any) -> None:
            seen.append("create Early")

    class Late(Early):
        requires = (Early,)

        def __init__(self, parent: Any) -> None:
            seen.append("make Late")

    Blueprint([Late], "x").apply(Parent())
    assert seen == ["make Early", "make Late", "create Early", "create Early"]


def test_steps_that_are_not_included() -> None:
    class Disabled(First):
        def __init__(self, parent: Any) -> None:
            self.enabled = False

        def create(self, parent: Any) -> None:
            raise AssertionError

    class Refusing(First):
        def include_if(self, parent: Any) -> bool:
            return False

    parent = Parent()
    blueprint = Blueprint([Disabled, Refusing, First], "x")
    blueprint.apply(parent)
    run(blueprint, parent)
    assert [step.alias for step in parent.steps] == ["First"]
    assert parent.calls == ["start First", "close First", "stop First", "shutdown First"]


def test_what_create_returns_is_started_and_stopped() -> None:
    calls: list[str] = []

    class Service:
        def start(self) -> None:
            calls.append("start")

        async def stop(self) -> None:
            await asyncio.sleep(0)
            calls.append("stop")

    class Serving(StartStopStep):
        def create(self, parent: Any) -> Service:
            return Service()

    parent = Parent()
    blueprint = Blueprint([Serving], "x")
    blueprint.apply(parent)
    run(blueprint, parent)
    assert calls == ["start", "stop"]


def test_plain_hooks_run_in_one_thread_and_async_ones_in_the_loop() -> None:
    threads: dict[str, threading.Thread] = {}

    class Both(StartStopStep):
        def start(self, parent: Any) -> None:
            threads["start"] = threading.current_thread()

        def stop(self, parent: Any) -> None:
            threads["stop"] = threading.current_thread()

        async def close(self, parent: Any) -> None:
            threads["close"] = threading.current_thread()

    parent = Parent()
    blueprint = Blueprint([Both], "x")
    blueprint.apply(parent)
    run(blueprint, parent)
    assert threads["start"] is threads["stop"]
    assert threads["start"].name == "umbel-x-steps"
    assert threads["close"] is threading.current_thread()


def test_hooks_that_do_nothing_need_no_thread() -> None:
    class Quiet(StartStopStep):
        async def start(self, parent: Any) -> None: ...

    before = threading.active_count()
    parent = Parent()
    blueprint = Blueprint([Quiet], "x")
    blueprint.apply(parent)
    run(blueprint, parent)
    assert threading.active_count() == before


@pytest.mark.parametrize(("terminate", "calls"), [(True, ["terminate", "stop"]), (False, ["stop", "stop"])])
def test_terminate_takes_the_place_of_stop(terminate: bool, calls: list[str]) -> None:
    seen: list[str] = []

    class Quick(StartStopStep):
        requires = ("Plain",)

        def stop(self, parent: Any) -> None:
            seen.append("stop")

        def terminate(self, parent: Any) -> None:
            seen.append("terminate")

    class Plain(StartStopStep):
        def stop(self, parent: Any) -> None:
            seen.append("stop")

    parent = Parent()
    blueprint = Blueprint([Quick, Plain], "x")
    blueprint.apply(parent)
    run(blueprint, parent, terminate=lambda: terminate)
    assert seen == calls


def test_info_is_merged() -> None:
    a = make_step("A", Step, info=lambda self, obj: {"a": obj})
    b = make_step("B", Step, info=lambda self, obj: {"b": 2})
    blueprint = Blueprint([a, b], "x")
    parent = Parent()
    blueprint.apply(parent)
    assert blueprint.info(parent) == {"a": parent, "b": 2}


# -- errors ----------------------------------------------------------------------------------------


def fail(*args: Any, **kwargs: Any) -> None:
    raise ValueError("no luck")


@pytest.mark.parametrize(("hook", "word"), [("__init__", "be made"), ("create", "be created")])
def test_a_step_that_cannot_be_prepared(hook: str, word: str, caplog: pytest.LogCaptureFixture) -> None:
    with pytest.raises(StepError, match=rf"step \S*Broken of the worker cannot {word}: ValueError: no luck"):
        Blueprint([make_step("Broken", Step, **{hook: fail})], "worker").apply(Parent())
    assert "Traceback" in caplog.text


def test_a_step_that_cannot_start_leaves_the_others_to_be_stopped() -> None:
    broken = make_step("Broken", requires=(First,), start=fail)
    parent = Parent()
    blueprint = Blueprint([broken, make_step("Later", requires=(broken,))], "worker")
    blueprint.apply(parent)
    with pytest.raises(StepError, match="Broken of the worker cannot be started: ValueError: no luck"):
        asyncio.run(blueprint.start(parent))
    asyncio.run(blueprint.stop(parent))
    asyncio.run(blueprint.shutdown(parent))
    assert parent.calls == ["start First", "stop First", "shutdown First"]


def test_errors_of_own_steps_are_passed_on_as_they_are() -> None:
    def refuse(*args: Any) -> None:
        raise UmbelError("the broker cannot be reached")

    own = make_step("Own", start=refuse)
    parent = Parent()
    blueprint = Blueprint([], "worker", default_steps=[own])
    blueprint.apply(parent)
    with pytest.raises(UmbelError, match=r"^the broker cannot be reached$"):
        asyncio.run(blueprint.start(parent))


def test_a_step_that_cannot_stop_does_not_keep_the_others(caplog: pytest.LogCaptureFixture) -> None:
    broken = make_step("Broken", requires=(First,), stop=fail)
    parent = Parent()
    blueprint = Blueprint([broken], "x")
    blueprint.apply(parent)
    run(blueprint, parent)
    assert "stop First" in parent.calls
    assert "stop of step" in caplog.text and "Broken failed" in caplog.text and "no luck" in caplog.text


@pytest.mark.parametrize("asynchronous", [False, True])
def test_a_step_that_hangs_is_left_behind(asynchronous: bool, caplog: pytest.LogCaptureFixture) -> None:
    held = threading.Event()

    async def wait(*args: Any) -> None:
        await asyncio.Event().wait()

    hook = wait if asynchronous else lambda self, parent: held.wait(30)
    hanging = make_step("Hanging", requires=(First,), stop=hook, stop_timeout=0.2)
    parent = Parent()
    blueprint = Blueprint([hanging], "x")
    blueprint.apply(parent)
    begun = time.monotonic()
    run(blueprint, parent)
    held.set()
    assert 0.2 <= time.monotonic() - begun < 5
    assert "stop First" in parent.calls
    assert "Hanging: it took over 0.2 s" in caplog.text


def test_a_timeout_that_a_hook_raises_is_its_own() -> None:
    def late(*args: Any) -> None:
        raise TimeoutError("mine")

    with pytest.raises(TimeoutError, match="mine"):
        asyncio.run(HookThread("x").call(late, timeout=5))


def test_interrupted_starting_starts_no_more() -> None:
    parent = Parent()
    blueprint = Blueprint([Second], "x")

    class Interrupting(Noted):
        def start(self, parent: Parent) -> None:
            blueprint.interrupt()

    blueprint = Blueprint([Interrupting, Second], "x")
    blueprint.apply(parent)
    asyncio.run(blueprint.start(parent))
    assert parent.calls == ["start First"]


def test_exits_are_errors_too() -> None:
    parent = Parent()
    blueprint = Blueprint([make_step("Leaving", start=lambda self, parent: sys.exit(3))], "x")
    blueprint.apply(parent)
    with pytest.raises(StepError, match="SystemExit: 3"):
        asyncio.run(blueprint.start(parent))


# -- consumer steps --------------------------------------------------------------------------------


class BreakingListener(Listener):
    """A subscription that the broker ends."""

    def __init__(self) -> None:
        self.closed = False

    def receive(self, timeout: float) -> list[Note]:
        raise BrokerError("the exchange was deleted")

    def close(self) -> None:
        self.closed = True


class Receiving(bootsteps.ConsumerStep):
    def __init__(self, consumers: list[Any]) -> None:
        self.made = consumers

    def get_consumers(self, broker: Any) -> list[Any]:
        return self.made


class ConsumingParent:
    def __init__(self) -> None:
        self.app = memory_app()
        self.asked: list[str] = []
        self.told = threading.Event()

    def request_restart(self, reason: str) -> None:
        self.asked.append(reason)
        self.told.set()


def test_a_consumer_that_breaks_asks_for_a_new_link(caplog: pytest.LogCaptureFixture) -> None:
    parent, listener = ConsumingParent(), BreakingListener()
    step = Receiving([listener])
    step.start(parent)
    assert parent.told.wait(5)
    step.stop(parent)
    assert parent.asked == ["step Receiving broke: the exchange was deleted"] and listener.closed
    assert "Receiving can receive no more" in caplog.text


def test_what_is_no_consumer_of_the_broker_is_refused() -> None:
    with pytest.raises(TypeError, match="kombu is not used"):
        Receiving(["kombu.Consumer"]).start(ConsumingParent())


# -- the graph -------------------------------------------------------------------------------------


def test_the_graph_in_dot() -> None:
    optional = make_step("Optional", requires=("Pool",), conditional=True, label='a "label"')
    text = draw([Blueprint([optional], "worker", default_steps=components.STEPS)])
    assert 'subgraph "cluster_worker" {' in text
    assert r'[label="5 a \"label\"", style="filled,dashed"];' in text
    assert f'"worker:{optional.name}" -> "worker:umbel.worker.components.Pool";' in text
    assert text.count("{") == text.count("}") == 2


def test_the_package_offers_celerys_names() -> None:
    assert {"Blueprint", "Step", "StartStopStep", "ConsumerStep"} <= set(dir(bootsteps))
    assert Step(None).enabled and not Step.last and not Step.conditional and Step.requires == ()
    assert First.name == f"{__name__}.First" and make_step("Named", name="mine").name == "mine"
