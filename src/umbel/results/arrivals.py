"""Which members of a set have ended, and in which order: all read at once, or told by the store as they end."""

from __future__ import annotations

import queue
import time
from collections import deque
from collections.abc import AsyncGenerator, Callable, Iterable, Iterator
from typing import TYPE_CHECKING, Any

from msgspec import Struct

from umbel.backends.base import Backend, Meta
from umbel.errors import TimeoutError
from umbel.results.base import OnInterval, OnMessage, ResultBase, described

if TYPE_CHECKING:
    from umbel.results.single import AsyncResult


class _Tally(Struct, eq=False):
    """A member, and how many tasks of it have not ended."""

    member: Any
    left: int


class Arrivals:
    """Takes the metas that come and tells which members have ended with each.

    A member is a result of one task, or a group that has ended when all of its tasks have. ``ended``: those that had
    before anything came.
    """

    def __init__(self, members: Iterable[ResultBase]) -> None:
        self.ended: list[Any] = []
        self._missing: dict[str, list[tuple[AsyncResult[Any], _Tally]]] = {}
        for member in members:
            leaves = [leaf for leaf in member.leaves() if not (leaf.ready_here() or leaf.ignored)]
            if not leaves:
                self.ended.append(member)
                continue
            tally = _Tally(member, len(leaves))
            for leaf in leaves:
                self._missing.setdefault(leaf.id, []).append((leaf, tally))

    def missing(self) -> list[str]:
        """The ids of tasks that have not ended."""
        return list(self._missing)

    def __len__(self) -> int:
        """How many tasks have not ended."""
        return len(self._missing)

    def of(self, meta: Meta) -> list[AsyncResult[Any]]:
        """The results of the task that ``meta`` is about, as long as it has not ended."""
        return [leaf for leaf, _ in self._missing.get(meta.task_id, ())]

    def note(self, meta: Meta) -> list[Any]:
        """Give the meta to its results; the members that have ended with it."""
        if not meta.ready:
            return []
        ended: list[Any] = []
        for leaf, tally in self._missing.pop(meta.task_id, ()):
            leaf.remember(meta)
            tally.left -= 1
            if not tally.left:
                ended.append(tally.member)
        return ended


def load(backend: Backend, leaves: Iterable[AsyncResult[Any]]) -> None:
    """Read at once what is stored of those that are not known to have ended."""
    missing: dict[str, list[AsyncResult[Any]]] = {}
    for leaf in leaves:
        if not leaf.ready_here():
            missing.setdefault(leaf.id, []).append(leaf)
    if missing:
        for task_id, meta in backend.get(list(missing)).items():
            for leaf in missing[task_id]:
                leaf.remember(meta)


def subscribe_to(backend: Backend, task_ids: Iterable[str], on_meta: Callable[[Meta], object]) -> Callable[[], None]:
    """Have ``on_meta`` called once for each task when it has ended, from a thread of the store; ends by the return."""
    ends: list[Callable[[], None]] = []

    def end() -> None:
        for each in ends:
            each()

    try:
        ends.extend(backend.subscribe(task_id, on_meta) for task_id in task_ids)
    except BaseException:
        end()
        raise
    return end


def as_they_end(
    members: Iterable[ResultBase],
    backend: Callable[[], Backend],
    timeout: float | None,
    interval: float,
    on_message: OnMessage | None,
    on_interval: OnInterval | None,
) -> Iterator[Any]:
    """The members in the order in which they end.

    ``timeout``: seconds for all together; raises TimeoutError. ``on_interval`` is called every ``interval`` seconds.
    """
    deadline = None if timeout is None else time.monotonic() + timeout
    arrivals = Arrivals(members)
    yield from arrivals.ended
    if not arrivals:
        return
    news: queue.SimpleQueue[Meta] = queue.SimpleQueue()
    end = subscribe_to(backend(), arrivals.missing(), news.put)
    try:
        while arrivals:
            left = None if deadline is None else max(0.0, deadline - time.monotonic())
            piece = left if on_interval is None else interval if left is None else min(left, interval)
            try:
                meta = news.get(timeout=piece)
            except queue.Empty:
                if deadline is not None and time.monotonic() >= deadline:
                    raise TimeoutError(f"{len(arrivals)} results are missing after {timeout} s") from None
                if on_interval is not None:
                    on_interval()
                continue
            if on_message is not None:
                on_message(described(meta))
            yield from arrivals.note(meta)
    finally:
        end()


async def aas_they_end(members: Iterable[ResultBase], backend: Callable[[], Backend]) -> AsyncGenerator[Any]:
    """The members in the order in which they end, pushed into the event loop that runs."""
    arrivals = Arrivals(members)
    for member in arrivals.ended:
        yield member
    if not arrivals:
        return
    import asyncio

    loop = asyncio.get_running_loop()
    news: deque[Meta] = deque()
    came = asyncio.Event()
    called = False

    def wake() -> None:
        nonlocal called
        called = False
        came.set()

    def on_meta(meta: Meta) -> None:
        nonlocal called
        news.append(meta)
        if not called:
            called = True
            loop.call_soon_threadsafe(wake)

    end = await asyncio.to_thread(subscribe_to, backend(), arrivals.missing(), on_meta)
    try:
        while arrivals:
            await came.wait()
            came.clear()
            while news:
                for member in arrivals.note(news.popleft()):
                    yield member
    finally:
        end()
