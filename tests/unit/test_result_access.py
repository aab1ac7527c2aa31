"""Results as a client sees them, over a real store: waiting, states, exceptions, groups, await, refusal in tasks."""

from __future__ import annotations

import asyncio
import datetime
import pickle
import threading
import traceback
import uuid
from collections.abc import Iterator
from typing import Any

import pytest

from umbel import AsyncResult, EagerResult, GroupResult, ResultSet, TimeoutError, Umbel, allow_join_result, group
from umbel.backends.base import Meta
from umbel.errors import NoBackend, UmbelError
from umbel.execution import Outcome, execute_message
from umbel.result import WouldBlock, denied_join_result, result_from_tuple


@pytest.fixture
def app() -> Iterator[Umbel]:
    with Umbel("results", broker=f"memory://{uuid.uuid4()}", backend=f"memory://{uuid.uuid4()}") as made:

        @made.task(name="add")
        def add(x: int, y: int) -> int:
            return x + y

        @made.task(name="fail")
        def fail(text: str) -> None:
            raise ValueError(text, 7)

        yield made


def work_off(app: Umbel) -> list[Outcome]:
    """Run all that is queued, and store and send what comes of it."""
    done: list[Outcome] = []
    while messages := app.broker.peek("celery", 100):
        app.broker.purge("celery")
        for message in messages:
            outcome = execute_message(app, message, hostname="w1@test")
            app.broker.publish(outcome.publish)
            app.backend.store([outcome.result] if outcome.result else [])
            done.append(outcome)
    return done


def later(app: Umbel) -> threading.Thread:
    thread = threading.Thread(target=work_off, args=(app,))
    thread.start()
    return thread


def test_whereabouts_tell_queued_from_unknown(app: Umbel) -> None:
    add = app.tasks["add"]
    result, later, failed = add.delay(1, 2), add.apply_async((1, 2), countdown=60), app.tasks["fail"].delay("x")
    assert result.state == later.state == app.AsyncResult("never-sent").state == "PENDING"
    assert (result.whereabouts(), later.whereabouts()) == ("ready", "delayed")
    assert app.AsyncResult("never-sent").whereabouts() == "unknown"
    work_off(app)
    assert result.whereabouts() == failed.whereabouts() == "ended"
    result.forget()
    assert result.whereabouts() == "unknown", "neither of them knows it any more"
    assert add.apply((1, 2)).whereabouts() == "ended"


def test_whereabouts_of_a_task_that_only_the_store_knows(app: Umbel) -> None:
    app.backend.store([app.backend.encode(Meta(task_id="t1", status="STARTED"))])
    assert app.AsyncResult("t1").whereabouts() == "begun"


def test_whereabouts_without_a_result_store() -> None:
    with Umbel("mute", broker=f"memory://{uuid.uuid4()}", backend="disabled://") as app:
        assert app.send_task("any").whereabouts() == "ready"
        assert app.AsyncResult("never-sent").whereabouts() == "unknown"


def test_a_result_from_unknown_to_done(app: Umbel) -> None:
    result = app.tasks["add"].delay(1, 2)
    assert (result.state, result.status, result.ready(), result.result, result.date_done) == (
        "PENDING", "PENDING", False, None, None,
    )  # fmt: skip
    assert result.children is None and not result.successful() and not result.failed()
    with pytest.raises(TimeoutError):
        result.get(timeout=0.05)
    work_off(app)
    assert (result.get(timeout=1), result.state, result.ready(), result.successful()) == (3, "SUCCESS", True, True)
    assert isinstance(result.date_done, datetime.datetime) and result.date_done.utcoffset() == datetime.timedelta(0)
    assert result.info == 3 and result.traceback is None and result.children == []
    assert result == app.AsyncResult(result.id) and str(result) == result.id and result.task_id == result.id
    assert pickle.loads(pickle.dumps(result)).get(timeout=1) == 3


def test_get_wakes_when_the_result_comes(app: Umbel) -> None:
    result = app.tasks["add"].delay(1, 2)
    thread = later(app)
    calls: list[Any] = []
    assert result.get(timeout=10, callback=lambda *seen: calls.append(seen), on_message=calls.append) == 3
    thread.join()
    assert calls[0]["status"] == "SUCCESS" and calls[-1] == (result.id, 3)


def test_exceptions_are_raised_with_the_remote_traceback(app: Umbel) -> None:
    result = app.tasks["fail"].delay("why")
    work_off(app)
    with pytest.raises(ValueError, match="why") as caught:
        result.get(timeout=1)
    assert caught.value.args == ("why", 7)
    shown = "".join(traceback.format_exception(caught.value))
    assert "Traceback in the worker" in shown and "in fail" in shown
    returned = result.get(propagate=False)
    assert isinstance(returned, ValueError) and result.failed()
    assert "raise ValueError(text, 7)" in (result.traceback or "")


def test_own_states_are_seen_while_the_task_runs(app: Umbel) -> None:
    @app.task(bind=True, name="long")
    def long(self: Any) -> Any:
        self.update_state(state="HALFWAY", meta={"at": 50})
        return app.AsyncResult(self.request.id).state, app.AsyncResult(self.request.id).info

    result = long.delay()
    work_off(app)
    assert list(result.get(timeout=1)) == ["HALFWAY", {"at": 50}]


def test_forget_removes_the_result(app: Umbel) -> None:
    result = app.tasks["add"].delay(1, 2)
    work_off(app)
    assert result.get(timeout=1) == 3
    result.forget()
    assert result.state == "PENDING" and app.backend.get([result.id]) == {}


def test_extended_results(app: Umbel) -> None:
    app.conf.result_extended = True
    result = app.tasks["add"].delay(1, y=2)
    work_off(app)
    assert (result.name, result.args, result.kwargs) == ("add", [1], {"y": 2})
    assert (result.worker, result.queue, result.retries) == ("w1@test", "celery", 0)


def test_parents_failure_ends_the_waiting(app: Umbel) -> None:
    parent = app.tasks["fail"].delay("parent")
    child: AsyncResult[Any] = AsyncResult("never", app=app, parent=parent)
    work_off(app)
    with pytest.raises(ValueError, match="parent"):
        child.get(timeout=5, interval=0.02)
    assert child.as_tuple() == (("never", ((parent.id, None), None)), None)
    assert child.as_list() == ["never", parent.id]


def test_on_interval_is_called_while_waiting(app: Umbel) -> None:
    ticks: list[int] = []
    with pytest.raises(TimeoutError):
        app.AsyncResult("never").get(timeout=0.5, interval=0.03, on_interval=lambda: ticks.append(1))
    assert 2 <= len(ticks) <= 17


def test_waiting_inside_a_task_is_refused(app: Umbel) -> None:
    @app.task(name="waits")
    def waits(allowed: bool) -> str:
        if allowed:
            with allow_join_result():
                return type(app.AsyncResult("known").get(timeout=1)).__name__
        return app.AsyncResult("never").get(timeout=1)

    known = app.tasks["add"].apply_async((1, 1), task_id="known")
    work_off(app)
    assert known.get(timeout=1) == 2
    results = [waits.delay(True), waits.delay(False)]
    work_off(app)
    assert results[0].get(timeout=1) == "int"
    assert isinstance(results[1].result, (WouldBlock, UmbelError, RuntimeError))
    assert "must not wait" in str(results[1].result)
    with denied_join_result(), pytest.raises(WouldBlock):
        known.get()


def test_without_backend_results_say_so() -> None:
    app = Umbel("none", broker="memory://none", set_as_current=False)
    result = app.send_task("x")
    for ask in (result.get, lambda: result.state, result.ready):
        with pytest.raises(NoBackend):
            ask()


# -- await -----------------------------------------------------------------------------------------


def test_await_does_not_block_the_loop(app: Umbel) -> None:
    async def main() -> Any:
        result = await app.tasks["add"].adelay(20, 1)
        ticks = 0

        async def tick() -> None:
            nonlocal ticks
            while True:
                ticks += 1
                await asyncio.sleep(0.005)

        ticker = asyncio.create_task(tick())
        loop = asyncio.get_running_loop()
        loop.call_later(0.1, lambda: loop.run_in_executor(None, work_off, app))
        value = await result
        ticker.cancel()
        return value, ticks

    value, ticks = asyncio.run(main())
    assert value == 21 and ticks >= 5


def test_await_raises_and_times_out(app: Umbel) -> None:
    async def main() -> None:
        failing = await app.tasks["fail"].aapply_async(("why",))
        by_name = await app.asend_task("add", (1, 2))
        work_off(app)
        with pytest.raises(ValueError, match="why"):
            await failing
        assert await by_name == 3
        assert isinstance(await failing.aget(propagate=False), ValueError)
        with pytest.raises(TimeoutError):
            await app.AsyncResult("never").aget(timeout=0.05)

    asyncio.run(main())


# -- many ------------------------------------------------------------------------------------------


def test_groups_are_joined_in_order(app: Umbel) -> None:
    add = app.tasks["add"]
    result = group(add.s(n, n) for n in range(5)).apply_async()
    assert isinstance(result, GroupResult)
    assert (len(result), result.ready(), result.waiting(), result.completed_count()) == (5, False, True, 0)
    with pytest.raises(TimeoutError):
        result.get(timeout=0.05)
    thread = later(app)
    assert result.get(timeout=10) == [0, 2, 4, 6, 8]
    thread.join()
    assert (result.ready(), result.successful(), result.failed(), result.completed_count()) == (True, True, False, 5)
    assert [r.get() for r in result] == result.join() == [0, 2, 4, 6, 8]


def test_a_failing_member_is_raised_before_the_others_end(app: Umbel) -> None:
    failing = app.tasks["fail"].delay("member")
    together = ResultSet([app.AsyncResult("never"), failing], app=app)
    thread = later(app)
    with pytest.raises(ValueError, match="member"):
        together.get(timeout=10)
    thread.join()
    assert together.failed() and not together.ready()
    done = ResultSet([failing, app.tasks["add"].apply((1, 1))], app=app)
    values = done.get(timeout=1, propagate=False)
    assert isinstance(values[0], ValueError) and values[1] == 2
    with pytest.raises(ValueError, match="member"):
        done.maybe_throw()


def test_groups_are_saved_and_restored(app: Umbel) -> None:
    add = app.tasks["add"]
    result = group(add.s(1, 1), add.s(2, 2)).apply_async()
    result.save()
    work_off(app)
    restored = GroupResult.restore(result.id, app=app)
    assert restored == result and restored is not None and restored.get(timeout=1) == [2, 4]
    result.delete()
    assert GroupResult.restore(result.id, app=app) is None


def test_sets_of_results_are_changed(app: Umbel) -> None:
    one, two = app.AsyncResult("1"), app.AsyncResult("2")
    together = ResultSet([one], app=app)
    together.update([one, two])
    assert list(together) == [one, two] and together[1] is two
    together.remove(one)
    together.discard(one)
    with pytest.raises(KeyError):
        together.remove(one)
    together.clear()
    assert len(together) == 0 and together.get() == []


def test_tuples_become_results(app: Umbel) -> None:
    nested = result_from_tuple([["g", ["p", None]], [[["a", None], None], [["b", [["c", None], None]], None]]], app)
    assert isinstance(nested, GroupResult) and nested.id == "g"
    assert [member.id for member in nested] == ["a", "b"]
    assert nested[1].parent.id == "c"


def test_eager_results(app: Umbel) -> None:
    result: EagerResult[int] = EagerResult("1", 5, "SUCCESS")
    assert (result.get(), result.state, result.ready(), result.result) == (5, "SUCCESS", True, 5)
    failed: EagerResult[int] = EagerResult("2", KeyError("x"), "FAILURE", "trace")
    with pytest.raises(KeyError):
        failed.get()
    assert isinstance(failed.get(propagate=False), KeyError) and failed.traceback == "trace"
