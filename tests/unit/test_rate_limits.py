"""Rate limits: how they are written, what a bucket does as time passes, and what the gate makes of deliveries."""

from __future__ import annotations

import secrets
from typing import Any

import pytest

from umbel import Umbel
from umbel.brokers.base import Action, Delivery, Settlement
from umbel.errors import ConfigurationError, NotRegistered
from umbel.limits.buckets import CATCH_UP, KEEP, Ask
from umbel.limits.rates import RateLimits
from umbel.limits.rates_memory import MemoryRates, own_rates
from umbel.limits.spec import parse_rate
from umbel.sending import prepare
from umbel.worker.gates import Gates

# -- how they are written --------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("written", "rate"),
    [
        (None, 0.0),
        (0, 0.0),
        ("0", 0.0),
        ("0/s", 0.0),
        (10, 10.0),
        (0.5, 0.5),
        ("10", 10.0),
        ("10/s", 10.0),
        ("0.5/s", 0.5),
        ("90/m", 1.5),
        (" 90 / m ", 1.5),
        ("1800/h", 0.5),
        ("1e3/s", 1000.0),
    ],
)
def test_rates_are_per_second(written: Any, rate: float) -> None:
    assert parse_rate(written, "it") == pytest.approx(rate)


@pytest.mark.parametrize(
    "written", ["ten/m", "5/x", "5/", "/m", "", "-1/s", -1, "nan", "inf", "5/m/s", True, [], b"5/m", "5 per minute"]
)
def test_what_is_no_rate_is_refused_with_its_task(written: Any) -> None:
    with pytest.raises(ConfigurationError, match=r"rate_limit of task t: .* is no rate limit; write"):
        parse_rate(written, "rate_limit of task t")


# -- buckets as time passes ------------------------------------------------------------------------


class Clock:
    """Time that passes when it is told to."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


class Queue:
    """Tasks that wait in a broker with exact delays, and how often each was judged."""

    def __init__(self, store: MemoryRates, clock: Clock, rate: float, ids: list[str]) -> None:
        self.store, self.clock, self.rate = store, clock, rate
        self.due = dict.fromkeys(ids, clock.now)
        self.ran: list[tuple[float, str]] = []
        self.passes = dict.fromkeys(ids, 0)

    def run(self, until: float = float("inf"), batch: int = 50) -> None:
        """Let time pass up to ``until``, or until nothing waits."""
        while self.due:
            moment = max(self.clock.now, min(self.due.values()))
            if moment > until:
                self.clock.now = until
                return
            self.clock.now = moment
            ready = sorted((due, id) for id, due in self.due.items() if due <= moment)[:batch]
            waits = self.store.take([Ask("t", id, 1 / self.rate) for _, id in ready])
            for (_, id), wait in zip(ready, waits, strict=True):
                self.passes[id] += 1
                if wait:
                    self.due[id] = moment + wait
                else:
                    del self.due[id]
                    self.ran.append((moment, id))


def names(count: int) -> list[str]:
    return [f"{number:05}" for number in range(count)]


def most_within(times: list[float], span: float) -> int:
    """The most that ran in any ``span`` seconds."""
    first = most = 0
    for last, moment in enumerate(times):
        while times[first] <= moment - span:
            first += 1
        most = max(most, last - first + 1)
    return most


def test_ten_thousand_tasks_run_in_order_after_two_passes_each() -> None:
    clock = Clock()
    queue = Queue(MemoryRates(clock=clock), clock, 10, names(10_000))
    queue.run()
    assert [id for _, id in queue.ran] == names(10_000)
    assert max(queue.passes.values()) == 2
    times = [moment for moment, _ in queue.ran]
    assert times[-1] - times[0] == pytest.approx(999.9, abs=0.05)
    assert most_within(times, 1.0) <= 11


@pytest.mark.parametrize("seconds", [1.5, 5.0, 60.0])
def test_after_an_outage_the_rate_holds_and_nobody_is_asked_often(seconds: float) -> None:
    clock = Clock()
    queue = Queue(MemoryRates(clock=clock), clock, 10, names(1000))
    queue.run(until=1020.0)
    clock.now += seconds
    queue.run()
    assert len(queue.ran) == 1000
    assert max(queue.passes.values()) <= 4
    times = [moment for moment, _ in queue.ran]
    assert most_within(times, 1.0) <= 10 * (1 + CATCH_UP) + 1
    assert times[-1] == pytest.approx(1000 + seconds + 99.9, abs=CATCH_UP + 0.5)


def test_a_short_outage_changes_no_order() -> None:
    clock = Clock()
    queue = Queue(MemoryRates(clock=clock), clock, 10, names(1000))
    queue.run(until=1020.0)
    clock.now += 5
    queue.run()
    assert [id for _, id in queue.ran] == names(1000)


def test_workers_by_themselves_share_the_work_with_few_passes() -> None:
    clock = Clock()
    queue = Queue(own_rates(), clock, 10, names(2000))
    other = own_rates()
    queue.store._clock = other._clock = clock
    stores, take = [queue.store, other], queue.store.take
    queue.run(until=1000.0)

    def take_in_turn(asks: list[Ask]) -> list[float]:
        stores.reverse()
        return take(asks) if stores[0] is queue.store else other.take(asks)

    queue.store.take = take_in_turn  # type: ignore[method-assign, assignment]
    queue.run()
    times = [moment for moment, _ in queue.ran]
    assert 100 <= times[-1] - times[0] <= 165
    assert max(queue.passes.values()) <= 25
    assert most_within(times, 1.0) <= 2 * (10 * (1 + CATCH_UP) + 1)


def test_after_an_outage_longer_than_all_moments_the_rate_holds() -> None:
    clock = Clock()
    store = MemoryRates(clock=clock)
    queue = Queue(store, clock, 10, names(1000))
    queue.run(until=1000.5)
    clock.now += 10 * KEEP
    queue.run()
    assert most_within([moment for moment, _ in queue.ran], 1.0) <= 10 * (1 + CATCH_UP) + 1
    assert max(queue.passes.values()) <= 3


def test_who_comes_back_a_little_late_loses_nothing() -> None:
    clock = Clock()
    store = MemoryRates(clock=clock)
    waits = store.take([Ask("t", id, 0.1) for id in names(101)])
    ran = 0
    for number in range(1, 27):
        clock.now = 1000.0 + number * 0.4 + 0.05
        due = [id for id, wait in zip(names(101), waits, strict=True) if (number - 1) * 0.4 < wait <= number * 0.4]
        ran += store.take([Ask("t", id, 0.1) for id in due]).count(0.0)
    assert ran == 100


def test_new_tasks_do_not_overtake_those_that_wait() -> None:
    clock = Clock()
    store = MemoryRates(clock=clock)
    (first, second) = store.take([Ask("t", "a", 1.0), Ask("t", "b", 1.0)])
    assert (first, second) == (0.0, 1.0)
    clock.now += 1.0
    assert store.take([Ask("t", "new", 1.0)])[0] > 0
    assert store.take([Ask("t", "b", 1.0)]) == [0.0]


def test_moments_that_nobody_comes_for_are_forgotten() -> None:
    clock = Clock()
    store = MemoryRates(clock=clock)
    store.take([Ask("t", id, 0.001) for id in names(5000)])
    store.take([Ask(f"bucket-{id}", id, 1.0) for id in names(500)])
    clock.now += KEEP + 120
    store.take([Ask("other", "x", 1.0)])
    assert list(store._kept) == ["other"]


def test_a_worker_gives_moments_whose_tasks_went_elsewhere_to_others() -> None:
    clock = Clock()
    store = own_rates()
    store._clock = clock
    waits = store.take([Ask("t", id, 1.0) for id in ("a", "b", "c")])
    assert waits == [0.0, 1.0, 2.0]
    clock.now += 1.1
    assert store.take([Ask("t", "from another worker", 1.0)])[0] > 0
    clock.now += 0.3
    assert store.take([Ask("t", "from another worker, too", 1.0)]) == [0.0]


# -- the gate --------------------------------------------------------------------------------------


@pytest.fixture
def app() -> Umbel:
    name = f"memory://{secrets.token_hex(6)}"
    return Umbel("limited", broker=name, backend=name, set_as_current=False)


def refuse(delivery: Delivery, error: Exception) -> Settlement:
    return Settlement(delivery, Action.DEAD_LETTER, reason=str(error))


def limits_of(app: Umbel) -> tuple[RateLimits, Gates]:
    gates = Gates()
    limits = RateLimits(app, gates, refuse)
    limits._own = MemoryRates()
    limits.read()
    return limits, gates


def deliver(app: Umbel, task: Any, *args: Any, **kwargs: Any) -> Delivery:
    return Delivery(0, "celery", prepare(app, task.name, args, kwargs, {}, task))


def judged(gates: Gates, deliveries: list[Delivery]) -> list[float | str | None]:
    """None for what runs, seconds for what is put off, the reason of what is dead-lettered."""
    verdicts = gates.judge(deliveries)
    found = [verdicts.get(id(delivery)) for delivery in deliveries]
    return [None if v is None else v.reason if v.action is Action.DEAD_LETTER else round(v.delay, 1) for v in found]


def test_without_limits_there_is_no_gate(app: Umbel) -> None:
    app.task(lambda: None, name="a")
    app.task(lambda: None, name="b", rate_limit=0)
    assert not limits_of(app)[1]


def test_only_the_limited_task_is_put_off(app: Umbel) -> None:
    limited = app.task(lambda: None, name="limited", rate_limit="1/m")
    free = app.task(lambda: None, name="free")
    _, gates = limits_of(app)
    deliveries = [deliver(app, task) for task in (limited, free, limited, free, limited)]
    assert judged(gates, deliveries) == [None, None, 60.0, None, 120.0]


def test_limits_by_default_by_task_and_by_annotation(app: Umbel) -> None:
    app.conf.task_default_rate_limit = "1/m"
    app.conf.task_annotations = {"annotated": {"rate_limit": "6/m"}}
    tasks = [
        app.task(lambda: None, name="default"),
        app.task(lambda: None, name="own", rate_limit="2/m"),
        app.task(lambda: None, name="none", rate_limit="0"),
        app.task(lambda: None, name="annotated"),
    ]
    _, gates = limits_of(app)
    for task, second in zip(tasks, (60.0, 30.0, None, 10.0), strict=True):
        assert judged(gates, [deliver(app, task), deliver(app, task)]) == [None, second]


def test_limits_can_be_disabled(app: Umbel) -> None:
    app.conf.worker_disable_rate_limits = True
    app.task(lambda: None, name="limited", rate_limit="1/m")
    limits, gates = limits_of(app)
    limits.set_rate_limit("limited", "1/h")
    assert not gates


def test_limits_change_at_run_time(app: Umbel) -> None:
    task = app.task(lambda: None, name="t")
    limits, gates = limits_of(app)
    assert not gates
    limits.set_rate_limit("t", "1/m")
    assert judged(gates, [deliver(app, task), deliver(app, task)]) == [None, 60.0]
    limits.set_rate_limit("t", 0)
    assert judged(gates, [deliver(app, task)]) == [None]
    limits.set_rate_limit("t", "1/h")
    assert judged(gates, [deliver(app, task)])[0] > 60  # type: ignore[operator]
    assert len(gates._gates) == 1
    with pytest.raises(ConfigurationError, match="ten/m"):
        limits.set_rate_limit("t", "ten/m")
    with pytest.raises(NotRegistered):
        limits.set_rate_limit("nobody", "1/m")


def test_a_key_is_a_limit_of_its_own(app: Umbel) -> None:
    def by_text(tenant: str, size: int = 1) -> None: ...
    def by_function(tenant: str, size: int = 1) -> None: ...

    tasks = [
        app.task(by_text, name="text", rate_limit="1/m", rate_limit_key="{tenant}-{size}"),
        app.task(by_function, name="fn", rate_limit="1/m", rate_limit_key=lambda tenant, size: (tenant, size)),
    ]
    _, gates = limits_of(app)
    for task in tasks:
        deliveries = [
            deliver(app, task, "a"),
            deliver(app, task, tenant="a", size=1),
            deliver(app, task, "b"),
            deliver(app, task, "a", 2),
        ]
        assert judged(gates, deliveries) == [None, 60.0, None, None]


def test_keys_of_methods_and_bound_tasks(app: Umbel) -> None:
    @app.task(bind=True, name="bound", rate_limit="1/m", rate_limit_key="{order[shop]}")
    def bound(self: Any, order: dict[str, str]) -> None: ...

    class Whole(app.Task):  # type: ignore[name-defined, misc]
        name = "whole"
        rate_limit = "1/m"

        def rate_limit_key(self, order: dict[str, str]) -> str:
            return order["shop"] + self.name

        def run(self, order: dict[str, str]) -> None: ...

    whole = app.register_task(Whole)
    _, gates = limits_of(app)
    for task in (bound, whole):
        deliveries = [deliver(app, task, {"shop": shop}) for shop in ("a", "b", "a")]
        assert judged(gates, deliveries) == [None, None, 60.0]


def test_long_keys_differ_by_their_ends(app: Umbel) -> None:
    task = app.task(lambda tenant: None, name="t" * 300, rate_limit="1/m", rate_limit_key="{tenant}")
    _, gates = limits_of(app)
    deliveries = [deliver(app, task, "x" * 1000 + end) for end in ("a", "b", "a")]
    assert judged(gates, deliveries) == [None, None, 60.0]


def test_a_key_that_fails_dead_letters_its_task_alone(app: Umbel) -> None:
    task = app.task(lambda n: None, name="t", rate_limit="1/m", rate_limit_key=lambda n: 1 // n)
    _, gates = limits_of(app)
    failed, first, second = judged(gates, [deliver(app, task, n) for n in (0, 1, 1)])
    assert failed == (
        "rate_limit_key of task t cannot be computed: ZeroDivisionError: integer division or modulo by zero"
    )
    assert (first, second) == (None, 60.0)


def test_arguments_that_do_not_fit_are_left_to_the_task_to_fail_for(app: Umbel) -> None:
    task = app.task(lambda n: None, name="t", rate_limit="1/m", rate_limit_key="{n}", typing=False)
    _, gates = limits_of(app)
    assert judged(gates, [deliver(app, task), deliver(app, task, 1, 2)]) == [None, None]


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"rate_limit": "ten/m"}, "rate_limit of task t: 'ten/m' is no rate limit"),
        ({"rate_limit": -1}, "-1 is no rate limit"),
        ({"rate_limit": 1, "rate_limit_scope": "galaxy"}, "'galaxy'; it must be one of worker, cluster"),
        ({"rate_limit": 1, "rate_limit_key": "{tennant}"}, "names no parameter of the task: 'tennant'; it has tenant"),
        ({"rate_limit": 1, "rate_limit_key": "{0}"}, "names no parameter of the task: '0'"),
        ({"rate_limit": 1, "rate_limit_key": "tenant"}, "names no parameter of the task, so that it is the same"),
        ({"rate_limit": 1, "rate_limit_key": "{tenant"}, "is no format string"),
        ({"rate_limit": 1, "rate_limit_key": 5}, "must be text or a function, not int"),
    ],
)
def test_bad_limits_are_refused_at_start(app: Umbel, options: dict[str, Any], words: str) -> None:
    app.task(lambda tenant: None, name="t", **options)
    with pytest.raises(ConfigurationError) as caught:
        limits_of(app)
    assert words in str(caught.value)


def test_a_cluster_wide_limit_needs_a_store(app: Umbel) -> None:
    alone = Umbel("alone", broker="amqp://guest@localhost:1//", backend="rpc://", set_as_current=False)
    alone.task(lambda: None, name="t", rate_limit=1, rate_limit_scope="cluster")
    with pytest.raises(ConfigurationError, match=r"'cluster' of task t needs a store .* \(AMQPBroker and RPCBackend\)"):
        limits_of(alone)


def test_the_store_is_the_brokers_if_it_can_else_the_result_backends(app: Umbel) -> None:
    from umbel.limits.opening import shared_system

    both = Umbel(broker="redis://localhost:1/0", backend="sqlite:////tmp/x.db", set_as_current=False)
    assert shared_system(both, "it") == ("redis", both.broker)
    other = Umbel(broker="amqp://guest@localhost:1//", backend="redis://localhost:1/0", set_as_current=False)
    assert shared_system(other, "it") == ("redis", other.backend)
