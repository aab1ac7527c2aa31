"""Wrong limits are told where they are written, or at the call."""

from __future__ import annotations

import pickle
import secrets
from typing import Any

import pytest

from umbel import DuplicateTaskError, Umbel, Unique
from umbel.brokers.base import Action, Delivery, Settlement
from umbel.errors import ConfigurationError, LimitKeyError
from umbel.limits.holds import HoldGate, concurrency_limits
from umbel.limits.holds_line import LONGEST, SHORTEST, pause
from umbel.limits.holds_opening import open_holds
from umbel.limits.unique import rule_of
from umbel.sending import prepare


@pytest.fixture
def app() -> Umbel:
    url = f"memory://{secrets.token_hex(6)}"
    return Umbel("limits", broker=url, backend=url, set_as_current=False)


@pytest.mark.parametrize("most", [0, -1, "three", 1.5, True])
def test_max_concurrency_is_a_whole_number_of_one_or_more(app: Umbel, most: Any) -> None:
    with pytest.raises(ConfigurationError, match=r"max_concurrency of task limits.add"):
        app.task(name="limits.add", max_concurrency=most)(lambda: None)


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"concurrency_key": "{x}"}, "no effect without max_concurrency"),
        ({"max_concurrency": 1, "concurrency_key": "{tenant}"}, "names no parameter of the task: 'tenant'"),
        ({"max_concurrency": 1, "concurrency_key": "{x"}, "no format string"),
        ({"max_concurrency": 1, "concurrency_key": 5}, "must be text or a function"),
        ({"unique": "yes"}, "must be True or umbel.Unique"),
        ({"unique": Unique(key="{y}")}, "names no parameter of the task: 'y'"),
        ({"unique": Unique(until="end")}, "until is 'end'"),  # pyright: ignore[reportArgumentType]
        ({"unique": Unique(on_conflict="ignore")}, "on_conflict is 'ignore'"),  # pyright: ignore[reportArgumentType]
        ({"unique": Unique(ttl=0)}, "ttl must be a number of seconds above 0"),
        ({"unique": Unique(ttl=-1.0)}, "ttl must be a number of seconds above 0"),
        ({"unique": Unique(ttl="1h")}, "ttl must be a number of seconds above 0"),  # pyright: ignore[reportArgumentType]
    ],
)
def test_wrong_options_are_told_at_the_definition(app: Umbel, options: dict[str, Any], text: str) -> None:
    def add(x: int) -> None: ...

    with pytest.raises(ConfigurationError, match=text):
        app.task(**options)(add)


def test_options_that_annotations_set_are_checked_when_a_worker_reads_them(app: Umbel) -> None:
    app.conf.task_annotations = {"limits.add": {"max_concurrency": 0}}
    app.task(name="limits.add")(lambda: None)
    with pytest.raises(ConfigurationError, match=r"max_concurrency of task limits.add"):
        concurrency_limits(app)


def test_arguments_that_make_no_key_are_told_at_the_call(app: Umbel) -> None:
    @app.task(unique=True, serializer="pickle")
    def each(x: Any) -> None: ...

    app.conf.accept_content = ["pickle", "json"]
    with pytest.raises(LimitKeyError, match=r"unique_key of task .*each cannot be computed: TypeError"):
        each.delay(object)
    assert each.delay({"b": 1, "a": [2]}).id == each.delay({"a": (2,), "b": 1}).id

    @app.task(unique=Unique(key=lambda x: x["none"]))
    def by_function(x: Any) -> None: ...

    with pytest.raises(LimitKeyError, match="KeyError"):
        by_function.delay({})
    assert app.broker.size("celery").ready == 1


def test_where_no_store_is_shared_it_is_told_at_the_call() -> None:
    app = Umbel("limits", broker="amqp://127.0.0.1:1//", backend="disabled://", set_as_current=False)

    @app.task(unique=True)
    def add(x: int) -> None: ...

    with pytest.raises(ConfigurationError, match=r"unique of task .*add needs a store"):
        add.delay(1)


def test_the_claim_of_a_call_lasts_until_it_has_run_or_cannot_run_any_more(app: Umbel) -> None:
    @app.task(unique=Unique(ttl=100))
    def add(x: int) -> None: ...

    rule = rule_of(add)
    assert rule is not None

    def ttl(**options: Any) -> float:
        return rule.claim_to_wait("k", prepare(app, add.name, (1,), {}, options, add)).ttl

    assert ttl() == 100
    assert 140 < ttl(countdown=50) <= 150
    assert 9 < ttl(expires=10) <= 10
    assert ttl(expires=1000) == 100


def test_changed_options_are_read_anew(app: Umbel) -> None:
    @app.task(unique=Unique(key="{x}"))
    def add(x: int, y: int) -> None: ...

    first = add.delay(1, 1)
    assert add.delay(1, 2).id == first.id
    add.unique = False
    assert add.delay(1, 2).id != first.id


def test_the_error_of_a_duplicate_travels() -> None:
    error = pickle.loads(pickle.dumps(DuplicateTaskError("add", "id", "key")))
    assert (error.task, error.task_id, error.key) == ("add", "id", "key")
    assert "add" in str(error)


# -- the gate --


def deliveries(app: Umbel, name: str, count: int) -> list[Delivery]:
    return [Delivery(None, "celery", prepare(app, name, (), {}, {})) for _ in range(count)]


def refuse(delivery: Delivery, error: Exception) -> Settlement:
    return Settlement(delivery, Action.DEAD_LETTER, reason=str(error))


def test_a_worker_takes_no_more_places_than_it_can_use(app: Umbel) -> None:
    app.task(name="limits.many", max_concurrency=10)(lambda: None)
    app.task(name="limits.free")(lambda: None)
    gate = HoldGate(concurrency_limits(app), open_holds(app, "this test"), lambda: 2, refuse, 60)
    held = deliveries(app, "limits.many", 4)
    verdicts = gate.judge([*held, *deliveries(app, "limits.free", 1)])
    assert sorted(verdicts) == sorted(map(id, held[2:]))
    assert all(each.action is Action.REQUEUE and not each.count and each.delay > 0 for each in verdicts.values())
    other = HoldGate(concurrency_limits(app), open_holds(app, "this test"), lambda: 2, refuse, 60)
    assert not other.judge(held[2:])
    gate.leave([held[0].message, *(each.message for each in deliveries(app, "limits.free", 1))])
    assert len(gate.judge(deliveries(app, "limits.many", 2))) == 1


def test_the_same_task_may_be_here_twice_and_each_has_its_place(app: Umbel) -> None:
    """A retry is claimed before the end of the first run is told."""
    app.task(name="limits.two", max_concurrency=2)(lambda: None)
    gate = HoldGate(concurrency_limits(app), open_holds(app, "this test"), lambda: 9, refuse, 60)
    (first,), (other,) = deliveries(app, "limits.two", 1), deliveries(app, "limits.two", 1)
    assert not gate.judge([first])
    assert not gate.judge([first])
    gate.leave([first.message])
    assert not gate.judge([other])
    assert gate.judge(deliveries(app, "limits.two", 1)), "the second run of the first is counted"


def test_lost_places_of_running_tasks_are_put_back(app: Umbel) -> None:
    app.task(name="limits.one", max_concurrency=1)(lambda: None)
    store = open_holds(app, "this test")
    gate = HoldGate(concurrency_limits(app), store, lambda: 9, refuse, 60)
    (first,) = deliveries(app, "limits.one", 1)
    gate.judge([first])
    (hold,) = gate._present()  # pyright: ignore[reportPrivateUsage]
    store.release([(hold, 1.0)])
    gate.renew()
    assert gate.judge(deliveries(app, "limits.one", 1))


def test_pauses_grow_with_the_line_and_with_the_duration() -> None:
    assert pause(0, 1, 0.001) >= SHORTEST
    line = [pause(rank, 3, 1.0) for rank in range(1000)]
    assert 0.1 <= line[0] <= line[4] <= 0.2
    assert 160 < line[999] < 170
    assert pause(10**6, 1, 60.0) == LONGEST
