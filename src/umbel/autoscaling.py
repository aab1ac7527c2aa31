"""Autoscaling: how many tasks at a time a worker should run, decided from what it sees.

A worker asks an ``Autoscaler`` every ``period`` seconds. Users derive from it and override ``desired``; the worker
keeps the answer between the limits of ``--autoscale``, and a ``Cooldown`` sees to it that the size does not flap.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Awaitable, Mapping
from typing import TYPE_CHECKING, ClassVar, Literal, NamedTuple

from msgspec import Struct

from umbel.errors import ConfigurationError

if TYPE_CHECKING:
    from umbel.app import Umbel

Measure = Literal["queues", "memory"]


class Bounds(NamedTuple):
    """Between how many tasks at a time a worker may run."""

    maximum: int
    minimum: int

    @classmethod
    def parse(cls, text: str) -> Bounds:
        """``MAX,MIN`` or ``MAX``, whose least is 0. Raises ConfigurationError."""
        parts = [part.strip() for part in text.split(",")]
        if len(parts) > 2 or not all(part.isascii() and part.isdecimal() for part in parts):
            raise ConfigurationError(f"autoscale must be MAX,MIN or MAX with whole numbers, such as 10,3, not {text!r}")
        bounds = cls(int(parts[0]), int(parts[1]) if len(parts) == 2 else 0)
        if bounds.maximum < 1:
            raise ConfigurationError(f"autoscale {text!r}: the maximum, which comes first, must be at least 1")
        if bounds.minimum > bounds.maximum:
            raise ConfigurationError(
                f"autoscale {text!r}: the minimum {bounds.minimum} is above the maximum {bounds.maximum}, "
                f"which comes first"
            )
        return bounds

    def clamp(self, size: int) -> int:
        """The nearest size that is allowed; at least 1, since a worker without executors would begin late."""
        return min(self.maximum, max(1, self.minimum, size))


class Stats(Struct, frozen=True, kw_only=True):
    """What a worker sees of its load.

    ``size``: tasks that it may run at a time now. ``minimum``, ``maximum``: as asked for. ``busy``: lanes that have a
    task. ``held``: messages that the worker holds, those of busy lanes included. ``runtime``: running mean of the
    tasks' duration in seconds. ``load``: load average of the machine over a minute. ``since_change``: seconds since the
    size was changed, or since the start.

    By what the autoscaler measures: ``queues``: ready messages in the broker by queue, -1 where it cannot tell.
    ``memory``: resident KiB of all processes of the worker together, pages that they share counted in each; else 0.
    """

    size: int
    minimum: int
    maximum: int
    busy: int
    held: int
    runtime: float
    load: float
    since_change: float
    queues: Mapping[str, int] = {}
    memory: int = 0

    @property
    def waiting(self) -> int:
        """Messages for which no lane was free: held here, and ready in the queues."""
        return max(0, self.held - self.busy) + sum(ready for ready in self.queues.values() if ready > 0)

    @property
    def needed(self) -> int:
        """Lanes with which nothing would wait."""
        return self.busy + self.waiting

    @property
    def latency(self) -> float:
        """Seconds until the last message that waits will begin, if this worker is alone and goes on as it does."""
        return self.waiting * self.runtime / self.size


class Autoscaler:
    """Wants a lane for each task that runs or waits. Override ``desired`` for another measure.

    ``app``: the worker's application. ``minimum`` and ``maximum``: tasks at a time. One object lives as long as its
    worker, in the supervisor.
    """

    period: ClassVar[float] = 1.0
    """Seconds between two decisions."""

    measures: ClassVar[frozenset[Measure]] = frozenset({"queues"})
    """What is to be measured for ``Stats`` each time besides what the worker knows anyway."""

    def __init__(self, app: Umbel, minimum: int, maximum: int) -> None:
        self.app = app
        self.minimum = minimum
        self.maximum = maximum

    def desired(self, stats: Stats) -> int | Awaitable[int]:
        """How many tasks the worker should run at a time; brought between minimum and maximum by the worker.

        Plain methods run in a thread of their own and may block, for ten seconds at most; ``async def`` ones run in
        the worker's event loop. What it raises is logged, and the size stays.
        """
        return stats.needed


class Cooldown:
    """Lets a size grow at once, and shrink only to the largest that was asked for within the last ``seconds``."""

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds
        self._asked: deque[tuple[float, int]] = deque()
        """Moments and sizes, each smaller than the one before."""

    def settle(self, size: int, now: float) -> int:
        """The size to have at ``now`` (seconds), when ``size`` is asked for."""
        asked = self._asked
        while asked and asked[-1][1] <= size:
            asked.pop()
        asked.append((now, size))
        while asked[0][0] < now - self.seconds:
            asked.popleft()
        return asked[0][1]
