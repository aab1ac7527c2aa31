"""Buckets in this process: those of one worker, and those that workers with a ``memory://`` broker share."""

from __future__ import annotations

import heapq
import os
import threading
from collections.abc import Callable, Sequence
from typing import Any

from msgspec import Struct, field

from umbel.clock import monotonic
from umbel.limits.buckets import KEEP, OVERDUE, SOON, Ask, Bucket, RateStore

PRUNE_EVERY = 60.0

GIVEN_UP = 0.2
"""Seconds after which a moment is free for another task, where tasks that were put back may come to other workers."""

SHORT = 2.0
"""Seconds of waiting that are not divided."""

KEEP_OWN = 60.0
"""Seconds for which one worker keeps the moment of a task: the task was most likely delivered to another worker."""


class _Kept(Struct):
    bucket: Bucket = field(default_factory=Bucket)
    given: dict[str, float] = field(default_factory=dict[str, float])
    """Moments by task id."""
    order: list[tuple[float, str]] = field(default_factory=list[tuple[float, str]])
    """The same as a heap, with some that are not given any more."""

    def give(self, task_id: str, moment: float) -> None:
        self.given[task_id] = moment
        heapq.heappush(self.order, (moment, task_id))

    def first(self, before: float) -> tuple[float, str] | None:
        """The earliest moment that is given, with its task, unless it is later than ``before``."""
        while self.order and self.order[0][0] <= before:
            moment, task_id = self.order[0]
            if self.given.get(task_id) == moment:
                return moment, task_id
            heapq.heappop(self.order)
        return None


class MemoryRates(RateStore):
    """See :class:`RateStore`. ``keep``: seconds for which a moment is kept for its task. ``given_up``: seconds after
    which an unused one goes to another task; None: never. ``divide``: a task is to ask again after half the
    time that is left, so that workers that are less busy may run it."""

    def __init__(
        self,
        keep: float = KEEP,
        given_up: float | None = None,
        divide: bool = False,
        clock: Callable[[], float] = monotonic,
    ) -> None:
        self._keep = keep
        self._divide = divide
        self._given_up = given_up
        self._clock = clock
        self._lock = threading.Lock()
        self._kept: dict[str, _Kept] = {}
        self._pruned = clock()

    def take(self, asks: Sequence[Ask]) -> list[float]:
        with self._lock:
            now = self._clock()
            if now - self._pruned > PRUNE_EVERY:
                self._prune(now)
            return [self._take(ask, now) for ask in asks]

    def _take(self, ask: Ask, now: float) -> float:
        kept = self._kept.get(ask.bucket) or self._kept.setdefault(ask.bucket, _Kept())
        given = kept.given.get(ask.task_id)
        if self._given_up is not None and (given is None or given > now + SOON):
            given = self._exchange(kept, ask.task_id, given, now - self._given_up)
        moment = kept.bucket.place(given, ask.interval, now)
        if moment <= now + SOON:
            kept.given.pop(ask.task_id, None)
            return 0.0
        if moment != kept.given.get(ask.task_id):
            kept.give(ask.task_id, moment)
        wait = moment - now
        return wait / 2 if self._divide and wait > SHORT else wait

    def _exchange(self, kept: _Kept, task_id: str, own: float | None, before: float) -> float | None:
        """The earliest moment that is not later than ``before`` and was not used; its task gets ``own`` instead."""
        first = kept.first(before)
        if first is None:
            return own
        moment, owner = first
        del kept.given[owner]
        if own is not None:
            kept.give(owner, own)
        return moment

    def _prune(self, now: float) -> None:
        self._pruned = now
        for name, kept in list(self._kept.items()):
            while first := kept.first(now - self._keep):
                del kept.given[first[1]]
            if not kept.given and max(kept.bucket.tail, kept.bucket.late) < now:
                del self._kept[name]


def own_rates() -> MemoryRates:
    """Buckets for one worker, which other workers know nothing of."""
    return MemoryRates(KEEP_OWN, GIVEN_UP, divide=True)


_stores: dict[tuple[int, str], MemoryRates] = {}


def open_store(driver: Any, prefix: str) -> MemoryRates:
    """The buckets that all workers on the ``memory://`` system of ``driver`` share in this process."""
    return _stores.setdefault((os.getpid(), f"{prefix}{driver.name}"), MemoryRates(given_up=OVERDUE))
