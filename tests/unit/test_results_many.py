"""Many results at once: as they come, in one read and one subscription, awaited, in nested groups, in odd cases."""

from __future__ import annotations

import asyncio
import threading
import uuid
from collections.abc import Callable, Collection, Iterator, Sequence
from typing import Any

import pytest

from umbel import AsyncResult, EagerResult, GroupResult, ResultSet, TimeoutError, Umbel, allow_join_result
from umbel.backends.base import Meta
from umbel.backends.memory import MemoryBackend
from umbel.errors import OperationalError
from umbel.joining import WouldBlock, denied_join_result
from workers import wait_for


class Counted(MemoryBackend):
    """A real store that counts how often it is asked."""

    asked: list[str]

    def get(self, task_ids: Sequence[str]) -> dict[str, Meta]:
        self.asked.append("get")
        return super().get(task_ids)

    def wait(self, task_ids: Collection[str], timeout: float | None, on_meta: Callable[[Meta], object]) -> bool:
        self.asked.append("wait")
        return super().wait(task_ids, timeout, on_meta)

    def forget(self, task_ids: Sequence[str]) -> None:
        self.asked.append("forget")
        super().forget(task_ids)


@pytest.fixture
def store() -> Iterator[Counted]:
    made = Counted(f"memory://{uuid.uuid4()}")
    made.asked = []
    yield made
    made.close()


@pytest.fixture
def app(store: Counted) -> Iterator[Umbel]:
    with Umbel("many", broker=f"memory://{uuid.uuid4()}", backend=store.url) as made:
        made._backend = store
        yield made


def end(app: Umbel, *values: Any, state: str = "SUCCESS", ids: Sequence[str] = ()) -> None:
    """Store the ends of tasks, one after the other; their ids are their values unless given."""
    for at, value in enumerate(values):
        task_id = ids[at] if ids else str(value)
        error = {"exc_type": "ValueError", "exc_module": "builtins", "exc_message": [value]}
        shown = error if state == "FAILURE" else value
        app.backend.store([app.backend.encode(Meta(task_id=task_id, status=state, result=shown))])


def several(app: Umbel, *ids: str) -> GroupResult[Any]:
    return app.GroupResult("group", [app.AsyncResult(each) for each in ids])


# -- how often the store is asked ------------------------------------------------------------------


def test_ten_thousand_are_joined_with_one_wait(app: Umbel, store: Counted) -> None:
    ids = [f"t{number}" for number in range(10_000)]
    store.store([store.encode(Meta(task_id=each, status="SUCCESS", result=each)) for each in ids])
    assert several(app, *ids).get(timeout=30) == ids
    assert store.asked == ["wait"]
    store.asked.clear()
    whole = several(app, *ids)
    assert whole.ready() and whole.successful() and not whole.failed() and whole.completed_count() == 10_000
    assert whole.join() == ids
    assert store.asked == ["get"], "what is known is not asked for again"
    whole.forget()
    assert store.asked == ["get", "forget"] and store.get(ids) == {}


def test_polling_asks_only_for_what_is_missing(app: Umbel, store: Counted) -> None:
    whole = several(app, "a", "b")
    end(app, "a")
    assert whole.completed_count() == 1 and whole.waiting()
    end(app, "b")
    assert whole.ready()
    store.asked.clear()
    assert whole.ready() and store.asked == []


def test_the_same_task_twice(app: Umbel, store: Counted) -> None:
    end(app, "a")
    assert ResultSet([app.AsyncResult("a"), app.AsyncResult("a")], app=app).get(timeout=1) == ["a", "a"]
    assert store.asked == ["wait"]


# -- as they come ----------------------------------------------------------------------------------


def test_values_come_in_the_order_in_which_they_end(app: Umbel) -> None:
    whole = several(app, "a", "b", "c")
    end(app, "c")
    seen: list[str] = []
    values = whole.iterate(timeout=10)
    for value in values:
        seen.append(value)
        end(app, *{"c": ["a"], "a": ["b"]}.get(value, []))
    assert seen == ["c", "a", "b"]
    assert list(whole.iterate()) == ["a", "b", "c"], "all known: in their order"


def test_metas_come_in_the_order_in_which_they_end(app: Umbel) -> None:
    nested = app.GroupResult("inner", [app.AsyncResult("x"), app.AsyncResult("y")])
    whole = ResultSet([app.AsyncResult("a"), nested, app.AsyncResult("bad")], app=app)
    messages: list[Any] = []
    found = whole.iter_native(timeout=10, on_message=messages.append)
    end(app, "y")
    end(app, "why", state="FAILURE", ids=["bad"])
    task_id, meta = next(found)
    assert (task_id, meta["status"], meta["task_id"]) == ("bad", "FAILURE", "bad")
    assert isinstance(meta["result"], ValueError) and meta["result"].args == ("why",)
    end(app, "x")
    assert next(found) == ("inner", nested.results)
    end(app, "a")
    assert [(task_id, meta["result"]) for task_id, meta in found] == [("a", "a")]
    assert [each["task_id"] for each in messages] == ["y", "bad", "x", "a"]


def test_iterating_has_a_deadline_and_ticks(app: Umbel) -> None:
    ticks: list[int] = []
    found = several(app, "never").iter_native(timeout=0.3, interval=0.02, on_interval=lambda: ticks.append(1))
    with pytest.raises(TimeoutError, match="1 results are missing"):
        list(found)
    assert len(ticks) >= 3


def test_what_is_not_iterated_to_its_end_is_not_waited_for(app: Umbel, store: Counted) -> None:
    found = several(app, "a", "never").iterate()
    end(app, "a")
    assert next(found) == "a"
    found.close()
    assert not store._store._watchers


def test_a_callback_gets_the_values_and_no_list_is_made(app: Umbel) -> None:
    nested = app.GroupResult("inner", [app.AsyncResult("x"), app.AsyncResult("y")])
    whole = ResultSet([app.AsyncResult("a"), nested], app=app)
    end(app, "x", "y", "a")
    seen: list[Any] = []
    assert whole.join(timeout=5, callback=lambda *found: seen.append(found)) == []
    assert sorted(seen) == [("a", "a"), ("inner", ["x", "y"])]
    again: list[Any] = []
    assert whole.join_native(callback=lambda *found: again.append(found)) == []
    assert sorted(again) == sorted(seen)


def test_intermediate_states_are_told(app: Umbel) -> None:
    whole = several(app, "a")
    seen: list[str] = []

    def on_message(meta: dict[str, Any]) -> None:
        seen.append(meta["status"])
        end(app, "a")

    end(app, "now", state="STARTED", ids=["a"])
    assert whole.get(timeout=10, on_message=on_message) == ["a"]
    assert seen == ["STARTED", "SUCCESS"]


# -- errors ----------------------------------------------------------------------------------------


def test_a_failure_that_is_known_already_is_raised_at_once(app: Umbel, store: Counted) -> None:
    end(app, "why", state="FAILURE", ids=["bad"])
    whole = several(app, "never", "bad")
    assert whole.failed()
    store.asked.clear()
    with pytest.raises(ValueError, match="why"):
        whole.get()
    assert store.asked == []


def test_a_failure_in_a_nested_group_is_raised_before_that_ends(app: Umbel) -> None:
    inner = several(app, "never", "bad")
    end(app, "why", state="FAILURE", ids=["bad"])
    with pytest.raises(ValueError, match="why"):
        ResultSet([inner], app=app).get(timeout=10)


@pytest.mark.parametrize(
    "kind", ["umbel.errors.OperationalError", "umbel.errors.TimeoutError", "builtins.TimeoutError"]
)
def test_errors_of_tasks_are_not_taken_for_errors_of_waiting(app: Umbel, kind: str) -> None:
    module, _, name = kind.rpartition(".")
    result = {"exc_type": name, "exc_module": module, "exc_message": ["the task's own"]}
    app.backend.store([app.backend.encode(Meta(task_id="bad", status="FAILURE", result=result))])
    with pytest.raises(Exception, match="the task's own"):
        several(app, "bad").get(timeout=5)

    async def main() -> None:
        with pytest.raises(Exception, match="the task's own"):
            await several(app, "bad").aget(timeout=5)

    asyncio.run(main())


def test_an_error_of_a_callback_reaches_the_caller(app: Umbel) -> None:
    def fail(*found: Any) -> None:
        raise OperationalError("my own")

    end(app, "a")
    with pytest.raises(OperationalError, match="my own"):
        several(app, "a").get(timeout=5, callback=fail)
    with pytest.raises(OperationalError, match="my own"):
        several(app, "a").get(timeout=5, on_message=fail)


def test_waiting_is_refused_where_it_would_block(app: Umbel) -> None:
    whole = several(app, "a")
    with denied_join_result():
        for wait in (whole.get, whole.join, whole.join_native):
            with pytest.raises(WouldBlock):
                wait()
        with allow_join_result(), pytest.raises(TimeoutError):
            whole.get(timeout=0.01)
    with denied_join_result(), pytest.raises(TimeoutError):
        whole.get(timeout=0.01, disable_sync_subtasks=False)


def test_maybe_throw_takes_the_callback_first(app: Umbel) -> None:
    end(app, "a")
    end(app, "why", state="FAILURE", ids=["bad"])
    whole, seen = several(app, "a", "bad"), list[Any]()
    with pytest.raises(ValueError, match="why"):
        whole.maybe_throw(lambda *found: seen.append(found))
    assert seen == [("a", "a")]
    whole.maybe_reraise(propagate=False)


# -- await and async for ---------------------------------------------------------------------------


def test_async_for_gives_results_as_they_come(app: Umbel) -> None:
    async def main() -> list[str]:
        seen: list[str] = []
        end(app, "b")
        async for result in several(app, "a", "b", "c"):
            assert isinstance(result, AsyncResult) and result.ready_here()
            seen.append(await result)
            end(app, *{"b": ["c"], "c": ["a"]}.get(seen[-1], []))
        return seen

    assert asyncio.run(asyncio.wait_for(main(), 20)) == ["b", "c", "a"]


def test_async_for_goes_on_after_a_failure(app: Umbel) -> None:
    async def main() -> list[str]:
        end(app, "why", state="FAILURE", ids=["bad"])
        end(app, "a")
        return sorted([result.state_here() async for result in several(app, "a", "bad")])

    assert asyncio.run(main()) == ["FAILURE", "SUCCESS"]


def test_async_for_does_not_block_the_loop_and_ends_its_subscriptions(app: Umbel, store: Counted) -> None:
    async def main() -> None:
        async def first() -> Any:
            async for result in several(app, "a", "never"):
                return result.id
            return None

        async def subscribed(tasks: int) -> None:
            while len(store._store._watchers) != tasks:
                await asyncio.sleep(0.001)

        waiting = asyncio.create_task(first())
        await asyncio.wait_for(subscribed(2), 10)
        assert not waiting.done()
        await asyncio.to_thread(end, app, "a")
        assert await asyncio.wait_for(waiting, 10) == "a"
        await asyncio.wait_for(subscribed(0), 10)
        forever = asyncio.create_task(several(app, "never").aget())
        await asyncio.wait_for(subscribed(1), 10)
        forever.cancel()
        with pytest.raises(asyncio.CancelledError):
            await forever

    asyncio.run(main())
    assert not store._store._watchers


def test_groups_are_awaited(app: Umbel) -> None:
    async def main() -> None:
        whole = several(app, "a", "b")
        with pytest.raises(TimeoutError, match="2 of 2 results are missing"):
            await whole.aget(timeout=0.05)
        end(app, "b", "a")
        assert await whole == ["a", "b"]
        end(app, "why", state="FAILURE", ids=["bad"])
        failing = ResultSet([app.AsyncResult("never"), several(app, "bad")], app=app)
        with pytest.raises(ValueError, match="why"):
            await failing
        error = (await several(app, "bad").aget(propagate=False))[0]
        assert isinstance(error, ValueError)

    asyncio.run(main())


# -- then ------------------------------------------------------------------------------------------


def test_then_is_called_when_all_have_ended(app: Umbel) -> None:
    whole, seen = several(app, "a", "b"), list[Any]()
    called = whole.then(lambda done: seen.append(done) or "next")
    after = called.then(lambda value: seen.append(value))
    end(app, "a")
    assert not called.ready
    end(app, "why", state="FAILURE", ids=["b"])
    wait_for(lambda: after.ready, 5, "the callbacks")
    assert seen == [whole, "next"] and called.value == "next"
    now: list[Any] = []
    assert whole.then(now.append).ready and now == [whole]


def test_a_cancelled_then_is_not_called(app: Umbel, store: Counted) -> None:
    seen: list[Any] = []
    promise = several(app, "a").then(seen.append)
    promise.cancel()
    end(app, "a")
    assert not store._store._watchers and seen == [] and not promise.ready


# -- odd members -----------------------------------------------------------------------------------


def test_nothing_to_wait_for(app: Umbel) -> None:
    none = ResultSet([], app=app)
    assert none.get() == none.join() == list(none.iter_native()) == list(none.iterate()) == []
    assert none.ready() and none.successful() and not none.failed() and none.completed_count() == 0
    assert not none.supports_native_join and asyncio.run(none.aget()) == []
    none.forget()
    none.revoke()


def test_results_that_are_here_need_no_store(store: Counted) -> None:
    here = ResultSet([EagerResult("1", 1, "SUCCESS"), EagerResult("2", 2, "SUCCESS")])
    assert here.get() == asyncio.run(here.aget()) == list(here.iterate()) == [1, 2]
    assert here.ready() and here.completed_count() == 2
    here.forget()
    assert here.get() == [1, 2], "nothing is stored of them, so nothing is forgotten"


def test_ignored_results_are_not_waited_for(app: Umbel) -> None:
    result = app.send_task("any", ignore_result=True)
    assert result.ignored and result.get() is None
    end(app, "a")
    assert ResultSet([result, app.AsyncResult("a")], app=app).get(timeout=1) == [None, "a"]

    @app.task(name="mute", ignore_result=True)
    def mute() -> None: ...

    assert mute.delay().get() is None and not mute.apply_async(ignore_result=False).ignored

    async def main() -> None:
        assert await (await mute.adelay()) is None

    asyncio.run(main())


def test_forgetting_takes_parents_and_headers_along(app: Umbel) -> None:
    header = several(app, "h1", "h2")
    body = app.AsyncResult("body", parent=header)
    ids = ["h1", "h2", "body", "last"]
    end(app, *ids)
    last = app.AsyncResult("last", parent=body)
    assert last.get() == "last"
    last.forget()
    assert app.backend.get(ids) == {} and last.state == "PENDING"


def test_members_are_changed_by_id_too(app: Umbel) -> None:
    whole = several(app, "a", "b")
    whole.update([app.AsyncResult("b"), app.AsyncResult("c"), app.AsyncResult("c")])
    assert [each.id for each in whole] == ["a", "b", "c"]
    whole.add(app.AsyncResult("a"))
    whole.remove("a")
    whole.discard("b")
    whole.discard("b")
    assert whole == several(app, "c") and "c" in whole.results
    with pytest.raises(KeyError):
        whole.remove("a")


def test_threads_may_wait_for_the_same_group(app: Umbel) -> None:
    whole, seen = several(app, "a", "b"), list[Any]()
    threads = [threading.Thread(target=lambda: seen.append(whole.get(timeout=20))) for _ in range(4)]
    for thread in threads:
        thread.start()
    end(app, "a", "b")
    for thread in threads:
        thread.join()
    assert seen == [["a", "b"]] * 4
