"""What callers do with results, over every store: joined, iterated, awaited, watched, kept as groups."""

from __future__ import annotations

import asyncio
import io
import sys
import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from conformance.backend.conftest import Sender
from conformance.waiting import Running
from umbel import GroupResult, TimeoutError, Umbel
from umbel.backends.base import Backend
from umbel.errors import BackendError
from workers import wait_for

MANY = 2_000


@pytest.fixture
def app(backend: Backend) -> Iterator[Umbel]:
    with Umbel("results", broker="memory://results", backend="disabled://", set_as_current=False) as made:
        made._backend = backend
        yield made


Make = Callable[[int], GroupResult[Any]]


@pytest.fixture
def group(app: Umbel, sender: Sender) -> Make:
    """A factory of groups of tasks that were just sent."""

    def make(count: int) -> GroupResult[Any]:
        return app.GroupResult(None, [app.AsyncResult(each) for each in sender.new(count)])

    return make


def end(sender: Sender, whole: GroupResult[Any], value: Callable[[str], Any] = str.upper) -> None:
    ids = [leaf.id for leaf in whole.leaves()]
    sender.backend.store([sender.encode(each, "SUCCESS", value(each)) for each in ids])


def values(whole: GroupResult[Any]) -> list[str]:
    return [leaf.id.upper() for leaf in whole.leaves()]


def test_many_are_joined(sender: Sender, group: Make) -> None:
    whole = group(MANY)
    waiting = Running(lambda: whole.join(timeout=60))
    end(sender, whole)
    assert waiting.result() == values(whole)
    assert whole.ready() and whole.successful() and whole.completed_count() == MANY


def test_many_come_as_they_end(sender: Sender, group: Make) -> None:
    whole = group(MANY)
    came = Running(lambda: dict(whole.iter_native(timeout=60)))
    end(sender, whole)
    found = came.result()
    assert [found[result.id]["result"] for result in whole] == values(whole)


def test_many_are_awaited(sender: Sender, group: Make) -> None:
    whole = group(MANY)

    async def main() -> Any:
        waiting = asyncio.create_task(whole.aget(timeout=60))
        await asyncio.sleep(0)
        await asyncio.to_thread(end, sender, whole)
        return await waiting

    assert asyncio.run(main()) == values(whole)


def test_async_for_gives_each_when_it_ends(sender: Sender, group: Make) -> None:
    whole = group(3)
    order = [whole[2], whole[0], whole[1]]

    async def main() -> list[Any]:
        seen: list[Any] = []
        await asyncio.to_thread(sender.store, order[0].id, "SUCCESS", 0)
        async for result in whole:
            seen.append(await result)
            if len(seen) < 3:
                await asyncio.to_thread(sender.store, order[len(seen)].id, "SUCCESS", len(seen))
        return seen

    assert asyncio.run(asyncio.wait_for(main(), 30)) == [0, 1, 2]


def test_a_failure_ends_the_wait_for_the_others(sender: Sender, group: Make) -> None:
    whole = group(3)
    error = {"exc_type": "ValueError", "exc_module": "builtins", "exc_message": ["why"]}
    sender.store(whole[1].id, "FAILURE", error)
    with pytest.raises(ValueError, match="why"):
        whole.get(timeout=30)
    with pytest.raises(ValueError, match="why"):
        asyncio.run(whole.aget(timeout=30))
    with pytest.raises(TimeoutError):
        whole.get(timeout=0.2, propagate=False)


def test_on_interval_is_called_while_waiting(sender: Sender, group: Make) -> None:
    whole, ticks = group(2), list[int]()

    def tick() -> None:
        ticks.append(1)
        if len(ticks) == 2:
            end(sender, whole)

    assert whole.get(timeout=30, interval=0.05, on_interval=tick) == values(whole)
    assert len(ticks) >= 2


def test_then_is_called_from_the_store(sender: Sender, group: Make) -> None:
    whole, seen = group(3), list[Any]()
    whole.then(lambda done: seen.append(threading.get_ident()))
    whole[0].then(lambda done: seen.append(threading.get_ident()))
    end(sender, whole)
    wait_for(lambda: len(seen) == 2)
    assert threading.get_ident() not in seen


def test_progress_is_seen_on_the_way(sender: Sender, group: Make, app: Umbel, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stderr", written := io.StringIO())
    whole = group(2)
    one = app.AsyncResult(whole[0].id, task_name="encode")
    sender.store(one.id, "PROGRESS", {"current": 1, "total": 4, "percent": 25.0})
    wait_for(lambda: one.state == "PROGRESS")
    with pytest.raises(TimeoutError):
        one.get(timeout=0.3, progress=True)
    sender.store(one.id, "SUCCESS", 1)
    assert one.get(timeout=30, progress=True) == 1
    with pytest.raises(TimeoutError):
        whole.get(timeout=0.1, progress=True)
    sender.store(whole[1].id, "SUCCESS", 2)
    assert whole.get(timeout=30, progress=True) == [1, 2]
    shown = [line.rpartition(" after ")[0] for line in written.getvalue().splitlines()]
    assert shown == ["encode: 1/4", "encode: SUCCESS", "2 tasks: 1/2", "2 tasks: 2/2"]


def test_groups_are_kept(sender: Sender, group: Make, app: Umbel) -> None:
    whole = group(3)
    if not sender.backend.features.groups:
        with pytest.raises(BackendError):
            whole.save()
        return
    whole.parent = app.AsyncResult("before")
    whole.save()
    end(sender, whole)
    again = GroupResult.restore(whole.id, app=app)
    assert again == whole and again is not None and again.get(timeout=30) == values(whole)
    again.delete()
    assert GroupResult.restore(whole.id, app=app) is None


def test_what_is_forgotten_is_gone(sender: Sender, group: Make, app: Umbel) -> None:
    whole = group(50)
    last = app.AsyncResult(sender.new(1)[0], parent=whole)
    end(sender, whole)
    sender.store(last.id, "SUCCESS", "last")
    assert last.get(timeout=30) == "last" and last.exists() and whole.get(timeout=30)
    last.forget()
    assert not last.exists() and not any(result.exists() for result in whole)
