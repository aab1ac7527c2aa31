"""Token buckets that hand out moments: when each task of a limited kind may run.

A bucket holds one token. A task that finds none is given the moment at which its own token is due, and goes back to the
broker until then; the moment is kept for it, so that it does not take a second token when it comes back. Moments are
handed out in the order in which tasks were first seen.

What comes back late, because a queue was long or workers were gone, may still run at once, but only as far as the rate
of what really ran allows: of a lull up to ``CATCH_UP`` seconds are made up, never more. The others get a new moment;
who comes back in time after that is too early in its turn, so that all are put off by the same time, in their order.

Who is later than ``OVERDUE``, or lost, may find that its moment was given to another, and stands in line anew.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence

from msgspec import Struct

SOON = 0.01
"""Seconds that a task may run before its moment: they are not worth another way through the broker."""

CATCH_UP = 1.0
"""Seconds of unused rate that tasks which come back late may use."""

OVERDUE = 0.5
"""Seconds after which a moment whose task has not come back is given to another one that asks: its own is at the end of
a long queue, or gone. The other way round the rate would not be reached before the whole queue has been seen."""

KEEP = 3600.0
"""Seconds for which the moment of a task that does not come back is kept."""


class Ask(Struct, frozen=True, gc=False):
    """One task that wants to run. ``interval``: seconds between two tasks of ``bucket``."""

    bucket: str
    task_id: str
    interval: float


class Bucket(Struct):
    """``free``: from when on another task may run, by what has run; ``tail``: the first moment that nobody was given;
    ``late``: the same of new moments for those who missed theirs; ``interval``: between moments, as they were handed
    out last."""

    free: float = 0.0
    tail: float = 0.0
    late: float = 0.0
    interval: float = 0.0

    def place(self, given: float | None, interval: float, now: float) -> float:
        """The moment of a task that asks at ``now``; it runs if that is not later than ``now + SOON``.

        ``given``: the moment that it was given before, None when it is new here. All in seconds by one clock.
        """
        if given is not None and given > now + SOON:
            return given
        if self.interval != interval:
            self._rescale(interval, now)
        free = max(self.free, now - CATCH_UP)
        moment = free if given is not None else max(free, self.tail, self.late, now)
        if moment <= now + SOON:
            self.free = free + interval
        elif given is not None:
            moment = max(moment, self.late)
            self.late = moment + interval
        if given is None:
            self.tail = moment + interval
        return moment

    def _rescale(self, interval: float, now: float) -> None:
        """What lies ahead takes longer or shorter from now on."""
        if self.interval:
            ratio = interval / self.interval
            self.free, self.tail, self.late = (
                min(moment, now) + max(0.0, moment - now) * ratio for moment in (self.free, self.tail, self.late)
            )
        self.interval = interval


class RateStore(ABC):
    """Where buckets are kept. Called by several threads."""

    @abstractmethod
    def take(self, asks: Sequence[Ask]) -> list[float]:
        """For each of ``asks``, in order, the seconds until it may run; 0: now, and its token is taken.

        One round trip, or one transaction. Raises OperationalError, BrokerError, BackendError.
        """
