"""What the harness asks of a task queue, whichever it is.

A driver module is imported twice, in the system's own virtual environment: by the system's worker, for the tasks,
and by `benchmarks.client`, for the class `Driver`. So a module imports at its top only what its worker needs.

Each module defines two tasks: `noop`, which returns 1, and `stamp`, which returns `time.monotonic()` (on Linux one
clock for all processes) as its body begins; those of systems on Redis also `nap`, which sleeps for `NAP` seconds. Where
the servers are stands in the environment: `BENCH_BROKER`, `BENCH_BACKEND`, `BENCH_QUEUE`.
"""

from __future__ import annotations

import os
import time
from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Any

BROKER = os.environ.get("BENCH_BROKER", "")
BACKEND = os.environ.get("BENCH_BACKEND", "")
QUEUE = os.environ.get("BENCH_QUEUE", "bench")
FIGURE = os.environ.get("BENCH_FIGURE", "")

NAP = 0.01

CHECK_EVERY = 64
"""Calls between two looks at the clock in a loop that runs for a given time."""

TASK_TIMEOUT = 30.0
"""Seconds to wait for a task before the run is given up."""


class DriverBase(ABC):
    """The client side of one task queue."""

    def prepare(self) -> None:  # noqa: B027
        """Create what must exist before a message is sent (schema, queues)."""

    @abstractmethod
    def send_many(self, count: int, task: str = "noop") -> None:
        """Enqueue `count` times this task by the fastest documented way; return when the broker has them."""

    @abstractmethod
    def send_for(self, seconds: float) -> tuple[int, float]:
        """Enqueue no-op tasks one at a time for about `seconds`; return how many and how long it took."""

    @abstractmethod
    def call_for(self, seconds: float) -> tuple[int, float]:
        """Send a no-op task and wait for its result, again and again; return how many and how long it took."""

    @abstractmethod
    def latency(self) -> float:
        """Send one `stamp` task; return the seconds from just before the send to the start of its body."""

    @abstractmethod
    def send_stamp(self) -> Callable[[], float]:
        """Send one `stamp` task; return a function that waits for its value."""

    @abstractmethod
    def watch(self, expected: int) -> Callable[[], int]:
        """Called after `expected` tasks were sent and before a worker starts.

        Returns a function that says how many of them are done, results stored. It is called some fifty times a
        second, so it must be a constant-time question to the server, and exact when it says `expected`.
        """

    def poll_interval(self) -> float:
        """Seconds between two questions of how many tasks are done."""
        return 0.02

    def cleanup(self) -> None:  # noqa: B027
        """Remove what a new run would find (queues of a shared server)."""


class SyncDriver(DriverBase):
    """A driver of a library with a blocking client."""

    @abstractmethod
    def send(self, task: str = "noop") -> object:
        """Enqueue one task."""

    @abstractmethod
    def call(self) -> object:
        """Enqueue one no-op task and wait for its result."""

    def send_many(self, count: int, task: str = "noop") -> None:
        for _ in range(count):
            self.send(task)

    def send_for(self, seconds: float) -> tuple[int, float]:
        return repeat_for(self.send, seconds, CHECK_EVERY)

    def call_for(self, seconds: float) -> tuple[int, float]:
        return repeat_for(self.call, seconds, 1)

    def latency(self) -> float:
        sent = time.monotonic()
        return self.send_stamp()() - sent


def repeat_for(call: Callable[[], Any], seconds: float, check_every: int) -> tuple[int, float]:
    """Call again and again for about `seconds`, looking at the clock every `check_every` calls."""
    count = 0
    start = now = time.perf_counter()
    while now - start < seconds:
        for _ in range(check_every):
            call()
        count += check_every
        now = time.perf_counter()
    return count, now - start


class RedisCounts:
    """Constant-time counts from a Redis server, over a connection of their own."""

    def __init__(self, url: str) -> None:
        import redis

        self.client = redis.Redis.from_url(url)

    def new_keys(self) -> Callable[[], int]:
        """How many keys the database has beyond those it has now: for a database of one key per result."""
        before = self.client.dbsize()
        return lambda: self.client.dbsize() - before
