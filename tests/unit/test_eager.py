"""``task_always_eager`` and ``apply()``: what a worker would do, here and now."""

from collections.abc import Iterator
from typing import Any

import pytest

from umbel import Umbel, chain, chord, group
from umbel.errors import ChordError, EncodeError
from umbel.result import EagerResult
from umbel.testing.apps import app_for_tests


@pytest.fixture
def app() -> Iterator[Umbel]:
    with app_for_tests({"task_always_eager": True}) as app:
        yield app


@pytest.fixture
def add(app: Umbel) -> Any:
    return app.make_task(lambda x, y: x + y, name="add")


@pytest.fixture
def fail(app: Umbel) -> Any:
    def fail(*args: Any) -> None:
        raise ValueError("no luck")

    return app.make_task(fail, name="fail")


@pytest.fixture
def told(app: Umbel) -> list[Any]:
    """What the error callbacks ``tell`` (new form) and ``tell_id`` (old form) were called with."""
    told: list[Any] = []
    app.make_task(lambda request, exc, traceback: told.append((request.id, type(exc).__name__)), name="tell")
    app.make_task(lambda uuid: told.append(uuid), name="tell_id")
    return told


def test_canvases_and_their_parents(app: Umbel, add: Any) -> None:
    total = app.make_task(sum, name="total")
    linked = chain(add.s(1, 1), add.s(2), add.s(3)).apply_async()
    assert (linked.get(), linked.parent.get(), linked.parent.parent.get()) == (7, 4, 2)
    counted = chord([add.s(1, 1) | add.s(1), add.s(2, 2)], total.s() | add.s(10)).apply_async()
    assert counted.get() == 17
    assert counted.parent.parent.get() == [3, 4]
    assert (group(add.s(n, n) for n in range(3)) | total.s()).delay().get() == 6
    assert chord([], total.s()).delay().get() == 0


def test_a_chain_ends_with_the_first_failure(app: Umbel, add: Any, fail: Any, told: list[Any]) -> None:
    never: list[int] = []
    note = app.make_task(never.append, name="note")
    result = chain(add.s(1, 1), fail.s(), note.s()).on_error(app.tasks["tell_id"].s()).apply_async()
    assert result.state == "FAILURE" and isinstance(result.result, ValueError)
    assert never == []
    assert told == [result.id]


def test_a_failed_member_fails_the_chord(app: Umbel, add: Any, fail: Any, told: list[Any]) -> None:
    body = add.s(1).on_error(app.tasks["tell"].s())
    result = chord([add.s(1, 1), fail.s()], body).apply_async()
    assert result.state == "FAILURE" and result.failed()
    with pytest.raises(ChordError, match=r"Dependency .* raised ValueError\('no luck'\)"):
        result.get()
    assert told == [(result.id, "ChordError")]
    assert [member.state for member in result.parent.results] == ["SUCCESS", "FAILURE"]
    kinds = app.make_task(lambda values: [type(value).__name__ for value in values], name="kinds")
    assert chord([add.s(1, 1), fail.s()]).apply(propagate=False, body=kinds.s()).get() == ["int", "ValueError"]


def test_errors_are_raised_where_that_is_asked_for(app: Umbel, add: Any, fail: Any, told: list[Any]) -> None:
    body = add.s(1).on_error(app.tasks["tell"].s())
    with pytest.raises(ChordError):
        chord([add.s(1, 1), fail.s()], body).apply(throw=True)
    app.conf.task_eager_propagates = True
    for call in (fail.s(), add.s(1, 1) | fail.s(), group(add.s(1, 1), fail.s()), chord([fail.s()], body)):
        with pytest.raises(ValueError, match="no luck"):
            call.apply_async()
    assert fail.apply(throw=False).state == "FAILURE"
    assert [name for _, name in told] == ["ChordError"]


def test_links_of_both_kinds(app: Umbel, add: Any, fail: Any, told: list[Any]) -> None:
    seen: list[Any] = []
    note = app.make_task(seen.append, name="note")
    assert add.apply_async((1, 1), link=[note.s(), add.s(5) | note.s()]).get() == 2
    assert seen == [2, 7]
    result = fail.apply_async(link=note.s(), link_error=[app.tasks["tell"].s(), app.tasks["tell_id"].s()])
    assert result.state == "FAILURE"
    assert told == [(result.id, "ValueError"), result.id] and seen == [2, 7]


def test_replaced_tasks(app: Umbel, add: Any, fail: Any, told: list[Any]) -> None:
    after: list[str] = []

    @app.task(name="replaced", bind=True)
    def replaced(self: Any, kind: str) -> None:
        shapes = {
            "task": add.s(1, 2),
            "chain": add.s(1, 2) | add.s(3),
            "group": group(add.s(1, 1), add.s(2, 2)),
            "chord": chord([add.s(1, 1), add.s(2, 2)], app.make_task(sum, name="total").s()),
            "again": self.s("task"),
            "failure": fail.s(),
        }
        try:
            raise self.replace(shapes[kind])
        finally:
            after.append(kind)

    for kind, expected in (("task", 3), ("chain", 6), ("group", [2, 4]), ("chord", 6), ("again", 3)):
        result = replaced.apply_async((kind,))
        assert isinstance(result, EagerResult)
        assert (result.get(), result.state) == (expected, "SUCCESS"), kind
    assert (replaced.s("chain") | add.s(1)).apply_async().get() == 7
    assert chord([replaced.s("task"), add.s(1, 1)], app.tasks["total"].s()).apply_async().get() == 5
    failed = replaced.apply_async(("failure",), link_error=app.tasks["tell"].s())
    assert failed.state == "FAILURE" and told == [(failed.id, "ValueError")]
    with pytest.raises(ValueError, match="no luck"):
        replaced.apply(("failure",), throw=True)


def test_retries_run_at_once_and_end(app: Umbel) -> None:
    runs: list[tuple[int, Any]] = []

    @app.task(name="flaky", bind=True, autoretry_for=(OSError,), max_retries=3, retry_backoff=60)
    def flaky(self: Any, until: int) -> str:
        runs.append((self.request.retries, self.request.id))
        if self.request.retries < until:
            raise OSError("not yet")
        return "done"

    result = flaky.apply_async((2,))
    assert result.get() == "done" and runs == [(n, result.id) for n in range(3)]
    failed = flaky.apply_async((99,))
    assert failed.state == "FAILURE" and isinstance(failed.result, OSError) and len(runs) == 3 + 4

    @app.task(name="with_other_arguments", bind=True)
    def with_other_arguments(self: Any, number: int) -> int:
        if number < 3:
            raise self.retry(args=(number + 1,), countdown=3600)
        return number

    assert with_other_arguments.delay(1).get() == 3
    assert chain(with_other_arguments.s(1), with_other_arguments.s()).delay().get() == 3


def test_arguments_arrive_as_a_worker_would_get_them(app: Umbel) -> None:
    echo = app.make_task(lambda *args, **kwargs: [args, kwargs], name="echo")
    given = [1]
    args, kwargs = echo.apply_async(((1, 2), given), {"t": (3,)}).get()
    assert args == ([1, 2], [1]) and kwargs == {"t": [3]}
    assert args[1] is not given
    with pytest.raises(EncodeError):
        echo.delay(object())
    args, _ = echo.apply_async((given,), serializer="pickle").get()
    assert args == ([1],) and args[0] is not given


def test_results_are_stored_where_that_is_asked_for(app: Umbel, add: Any, fail: Any) -> None:
    unseen = add.delay(1, 1)
    assert app.AsyncResult(unseen.id).state == "PENDING"
    app.conf.task_store_eager_result = True
    for task in (add, fail):
        task.store_eager_result = True
    result = add.delay(1, 1)
    stored = app.AsyncResult(result.id)
    assert (stored.state, stored.get(timeout=1)) == ("SUCCESS", 2)
    failed = app.AsyncResult(fail.delay().id)
    assert failed.state == "FAILURE"
    with pytest.raises(ValueError, match="no luck"):
        failed.get(timeout=1)
    linked = chain(add.s(1, 1), add.s(2)).apply_async()
    assert app.AsyncResult(linked.parent.id).get(timeout=1) == 2


async def _double(number: int) -> int:
    return 2 * number


def test_async_tasks(app: Umbel, add: Any) -> None:
    double = app.make_task(_double, name="double")
    assert (double.s(2) | add.s(1)).delay().get() == 5
