"""The pools that the suite runs, each as a user would start it."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class PoolCase:
    """``arguments`` of ``umbel worker``; ``processes`` and the ``lanes`` of each are what they ask for."""

    id: str
    arguments: tuple[str, ...]
    processes: int
    lanes: int

    @property
    def size(self) -> int:
        """Tasks at a time."""
        return self.processes * self.lanes

    @property
    def forks(self) -> bool:
        """Whether tasks run in executor processes."""
        return self.id != "solo"


POOLS = [
    PoolCase("prefork", ("-c", "4"), 4, 1),
    PoolCase("threads", ("-P", "threads", "-c", "4"), 1, 4),
    PoolCase("threads, two processes", ("-P", "threads", "--processes", "2", "-c", "2"), 2, 2),
    PoolCase("asyncio", ("-P", "asyncio", "-c", "4"), 1, 4),
    PoolCase("asyncio, two processes", ("-P", "asyncio", "--processes", "2", "-c", "2"), 2, 2),
    PoolCase("gevent", ("-P", "gevent", "-c", "4"), 1, 4),
    PoolCase("eventlet", ("-P", "eventlet", "-c", "4"), 1, 4),
    PoolCase("solo", ("-P", "solo"), 1, 1),
]
