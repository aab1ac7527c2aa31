"""Tasks as their authors see them: names, options, direct and eager calls, classes, argument checks, validation."""

from __future__ import annotations

import asyncio
import dataclasses
import datetime
import inspect
import pickle
import sys
import uuid
from collections.abc import Iterator
from typing import Any

import pytest

from umbel import Ignore, Reject, Umbel, current_app, current_task, shared_task
from umbel.errors import MissingExtra, NotRegistered
from umbel.execution import execute_message
from umbel.task import Task


@pytest.fixture
def app() -> Iterator[Umbel]:
    with Umbel("calls", broker=f"memory://{uuid.uuid4()}", backend=f"memory://{uuid.uuid4()}") as made:
        yield made


def test_names(app: Umbel) -> None:
    def work() -> None: ...

    assert app.make_task(work).name == f"{__name__}.work"
    assert app.make_task(work, name="short").name == "short"
    work.__module__ = "__main__"
    assert app.make_task(work).name == "calls.work"


def test_a_name_belongs_to_one_task(app: Umbel) -> None:
    first = app.make_task(lambda: 1, name="same")
    assert app.make_task(lambda: 2, name="same") is first


def test_unknown_names_raise(app: Umbel) -> None:
    with pytest.raises(NotRegistered, match=r"nobody\.knows"):
        app.tasks["nobody.knows"]
    with pytest.raises(KeyError):
        app.tasks.unregister("nobody.knows")
    assert app.tasks.get("nobody.knows") is None


def test_a_task_is_like_its_function(app: Umbel) -> None:
    @app.task(bind=True)
    def work(self: Any, x: int, *, y: int = 2) -> int:
        """Adds."""
        return x + y

    assert work(1) == 3 and work.__doc__ == "Adds." and work.__name__ == "work"  # type: ignore[attr-defined]
    assert list(inspect.signature(work).parameters) == ["x", "y"]
    assert pickle.loads(pickle.dumps(work)) is work


def test_direct_calls_have_a_request_of_their_own(app: Umbel) -> None:
    @app.task(bind=True)
    def work(self: Task[..., Any], depth: int) -> list[Any]:
        here = (self.request.called_directly, self.request.args, current_task.name)
        return [here, *(work(depth - 1) if depth else [])]

    assert work(1) == [(True, (1,), work.name), (True, (0,), work.name)]
    assert work.request.called_directly and work.request.id == ""


def test_pushed_requests_are_seen(app: Umbel) -> None:
    @app.task(bind=True)
    def work(self: Task[..., Any]) -> Any:
        return self.request.id, self.request.retries

    work.push_request(id="pretended", retries=3)
    assert work.run() == ("pretended", 3)
    work.pop_request()
    assert work.request.id == ""


def test_classes_as_tasks(app: Umbel) -> None:
    class Counter(Task[..., Any]):
        name = "counter"
        max_retries = 7

        def __init__(self) -> None:
            self.total = 0

        def run(self, by: int) -> int:
            self.total += by
            return self.total

    counter = app.register_task(Counter)
    assert app.tasks["counter"] is counter and counter.max_retries == 7
    counter.delay(2)
    (message,) = app.broker.peek("celery")
    assert [execute_message(app, message).value for _ in range(2)] == [2, 4]


def test_overridden_call_is_used(app: Umbel) -> None:
    class Shouting(Task[..., Any]):
        def __call__(self, *args: Any, **kwargs: Any) -> Any:
            return super().__call__(*args, **kwargs).upper()

    @app.task(base=Shouting)
    def say(word: str) -> str:
        return word

    say.delay("hi")
    assert execute_message(app, app.broker.peek("celery")[0]).value == "HI"
    assert say.apply(("ho",)).get() == "HO"


def test_options_come_from_settings_unless_given() -> None:
    app = Umbel("o", broker="memory://o", set_as_current=False, task_acks_late=False, task_serializer="msgpack")

    @app.task
    def plain() -> None: ...

    @app.task(acks_late=True, serializer="json", rate_limit="10/m", custom=5)
    def own() -> None: ...

    app.finalize()
    assert (plain.acks_late, plain.serializer, plain.rate_limit) == (False, "msgpack", None)
    assert (own.acks_late, own.serializer, own.rate_limit, own.custom) == (True, "json", "10/m", 5)  # type: ignore[attr-defined]

    @app.task
    def later() -> None: ...

    assert later.serializer == "msgpack"


def test_annotations_change_options() -> None:
    annotations = {"*": {"rate_limit": "1/s"}, "special": {"rate_limit": "5/s", "max_retries": 1}}
    app = Umbel("a", broker="memory://a", set_as_current=False, task_annotations=annotations)
    tasks = [app.make_task(lambda: None, name=name) for name in ("other", "special")]
    app.finalize()
    assert [(task.rate_limit, task.max_retries) for task in tasks] == [("1/s", 3), ("5/s", 1)]


def test_shared_tasks_belong_to_every_application() -> None:
    name = f"shared.{uuid.uuid4()}"

    @shared_task(name=name, bind=True, max_retries=4)
    def where(self: Task[..., Any]) -> str | None:
        return self.app.main

    with Umbel("one", broker="memory://one") as one:
        assert where() == "one" and where.name == name and where.max_retries == 4
        assert one.tasks[name] is not where and isinstance(where, Task)
        with Umbel("two", broker="memory://two") as two:
            assert where() == "two" and two.tasks[name].app is two
            assert current_app.main == "two"
            one.set_current()
            assert where() == "one"


def test_functions_given_as_options_become_methods(app: Umbel) -> None:
    seen: list[Any] = []

    def on_failure(self: Any, exc: Any, task_id: str, args: Any, kwargs: Any, einfo: Any) -> None:
        seen.append((self.name, repr(exc)))

    @app.task(on_failure=on_failure)
    def fail() -> None:
        raise ValueError("x")

    fail.apply()
    assert seen == [(fail.name, "ValueError('x')")]


# -- eager -----------------------------------------------------------------------------------------


def test_apply_gives_results_and_exceptions(app: Umbel) -> None:
    @app.task
    def divide(x: int, y: int) -> float:
        return x / y

    result = divide.apply((6, 3))
    assert (result.get(), result.state, result.ready(), result.successful()) == (2, "SUCCESS", True, True)
    failed = divide.apply((1, 0))
    assert failed.failed() and isinstance(failed.result, ZeroDivisionError)
    assert "ZeroDivisionError" in (failed.traceback or "")
    with pytest.raises(ZeroDivisionError):
        failed.get()
    with pytest.raises(ZeroDivisionError):
        divide.apply((1, 0), throw=True)


def test_apply_retries_at_once(app: Umbel) -> None:
    tries: list[int] = []

    @app.task(bind=True, max_retries=3)
    def flaky(self: Task[..., Any], need: int) -> str:
        tries.append(self.request.retries)
        if self.request.retries < need:
            raise self.retry(countdown=999, exc=ValueError("again"))
        return self.request.id

    assert flaky.apply((2,), task_id="fixed").get() == "fixed"
    assert tries == [0, 1, 2]
    assert flaky.apply((9,)).state == "FAILURE"


def test_eager_requests_and_steering(app: Umbel) -> None:
    @app.task(bind=True)
    def work(self: Task[..., Any], what: str) -> Any:
        if what == "ignore":
            raise Ignore
        if what == "reject":
            raise Reject("why")
        return self.request.is_eager, self.request.called_directly, self.request.headers, self.request.delivery_info

    value = work.apply(("look",), headers={"a": 1}).get()
    assert value[:3] == (True, False, {"a": 1}) and value[3]["is_eager"]
    assert work.apply(("ignore",)).state == "IGNORED"
    assert work.apply(("reject",)).state == "REJECTED"


def test_always_eager_runs_links_too() -> None:
    app = Umbel("eager", broker="memory://eager", set_as_current=False, task_always_eager=True)
    seen: list[Any] = []

    @app.task
    def add(x: int, y: int) -> int:
        return x + y

    @app.task
    def note(x: int) -> None:
        seen.append(x)

    assert add.apply_async((1, 2), link=note.s(), queue="q", countdown=9).get() == 3
    assert seen == [3]
    assert app.broker.peek("q") == [] and app.broker.peek("celery") == []
    app.conf.task_eager_propagates = True

    with pytest.raises(TypeError):
        add.delay(1, "x")  # pyright: ignore[reportArgumentType]


def test_eager_results_may_be_stored(app: Umbel) -> None:
    @app.task(store_eager_result=True)
    def one() -> int:
        return 1

    assert app.AsyncResult(one.apply().id).get(timeout=1) == 1


def test_async_tasks_apply_inside_a_running_loop(app: Umbel) -> None:
    @app.task
    async def work(x: int) -> int:
        await asyncio.sleep(0)
        return x

    async def inside() -> int:
        assert await work(1) == 1
        return work.apply((2,)).get()

    assert asyncio.run(inside()) == 2


# -- arguments -------------------------------------------------------------------------------------


def check(app: Umbel, function: Any, *args: Any, **kwargs: Any) -> None:
    app.make_task(function, name=str(uuid.uuid4())).check_arguments(args, kwargs)


def positional_only(a: int, b: int, /, c: int = 0, *, d: int, e: int = 1) -> None: ...


def variable(a: int, *rest: int, key: int, **others: int) -> None: ...


def only_positional(a: int, /) -> None: ...


@pytest.mark.parametrize(
    ("function", "args", "kwargs", "fits"),
    [
        (positional_only, (1, 2), {"d": 1}, True),
        (positional_only, (1, 2, 3), {"d": 1, "e": 2}, True),
        (positional_only, (1,), {"b": 2, "d": 1}, False),
        (positional_only, (1, 2), {}, False),
        (positional_only, (1, 2, 3, 4), {"d": 1}, False),
        (variable, (1, 2, 3), {"key": 1, "more": 2}, True),
        (variable, (1,), {}, False),
        (variable, (), {"a": 1, "key": 2}, True),
        (only_positional, (1,), {}, True),
        (only_positional, (), {"a": 1}, False),
    ],
)
def test_arguments_are_checked_as_python_does(
    app: Umbel, function: Any, args: tuple[Any, ...], kwargs: dict[str, Any], fits: bool
) -> None:
    if fits:
        check(app, function, *args, **kwargs)
        function(*args, **kwargs)
    else:
        with pytest.raises(TypeError, match=function.__name__):
            check(app, function, *args, **kwargs)
        with pytest.raises(TypeError):
            function(*args, **kwargs)


def test_nothing_is_sent_with_wrong_arguments(app: Umbel) -> None:
    @app.task(bind=True)
    def add(self: Any, x: int, y: int) -> int:
        return x + y

    with pytest.raises(TypeError, match="missing 1 required positional argument: 'y'"):
        add.delay(1)  # pyright: ignore[reportCallIssue]
    assert app.broker.peek("celery") == []


def test_checks_can_be_switched_off() -> None:
    app = Umbel("loose", broker="memory://loose", set_as_current=False, strict_typing=False)
    app.make_task(lambda x: x, name="loose").delay()
    strict = app.make_task(lambda x: x, name="strict", typing=True)
    with pytest.raises(TypeError):
        strict.delay()


@dataclasses.dataclass
class Order:
    number: int
    when: datetime.date
    tags: list[str] = dataclasses.field(default_factory=list)


def sent_and_run(app: Umbel, task: Any, *args: Any) -> Any:
    task.delay(*args)
    (message,) = app.broker.peek("celery")
    app.broker.purge("celery")
    return execute_message(app, message)


def test_validation_by_annotations(app: Umbel) -> None:
    @app.task(validate=True)
    def work(order: Order, count: int = 1, *more: int) -> Any:
        return type(order).__name__, order.when.year * count, order.tags

    order = Order(5, datetime.date(2026, 1, 2), ["a"])
    outcome = sent_and_run(app, work, {"number": 5, "when": "2026-01-02", "tags": ["a"]}, 2, 3)
    assert outcome.value == ("Order", 4052, ["a"])
    assert work.apply((order,)).get() == ("Order", 2026, ["a"])
    outcome = sent_and_run(app, work, {"number": "five", "when": "2026-01-02"})
    assert outcome.state == "FAILURE" and "'order'" in outcome.error_repr and "number" in outcome.error_repr
    assert sent_and_run(app, work, {"number": 5, "when": "2026-01-02"}, "x").state == "FAILURE"


def test_validation_by_pydantic(app: Umbel) -> None:
    pydantic = pytest.importorskip("pydantic")

    class Item(pydantic.BaseModel):
        number: int

    async def work(item: Item, other: Item | None = None, plain: int = 0) -> Item:
        assert isinstance(item, Item)
        return Item(number=item.number + plain + (other.number if other else 0))

    work.__annotations__ = {"item": Item, "other": Item | None, "plain": int, "return": Item}
    task = app.make_task(work, pydantic=True)
    assert sent_and_run(app, task, {"number": "5"}).value == {"number": 5}
    assert sent_and_run(app, task, {"number": 5}, {"number": 1}, 2).value == {"number": 8}
    outcome = sent_and_run(app, task, {"number": "five"})
    assert outcome.state == "FAILURE" and "'item'" in outcome.error_repr and "valid integer" in outcome.error_repr


def test_pydantic_missing_says_which_extra(app: Umbel, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pydantic", None)
    task = app.make_task(lambda x: x, name="p", pydantic=True)
    with pytest.raises(MissingExtra, match="pydantic"):
        task.apply((1,)).get()
    outcome = sent_and_run(app, task, 1)
    assert outcome.state == "FAILURE" and "umbel[pydantic]" in outcome.error_repr
