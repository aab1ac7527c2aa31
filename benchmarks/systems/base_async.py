"""Drivers of libraries whose client is asyncio: each measured loop is one coroutine, so no loop start is timed."""

from __future__ import annotations

import asyncio
import time
from abc import abstractmethod
from collections.abc import Callable, Coroutine
from typing import Any

from benchmarks.systems.base import CHECK_EVERY, DriverBase

WINDOW = 200
"""Sends in flight at once where a library has no bulk call of its own."""


class AsyncDriver(DriverBase):
    """A driver of a library with an asyncio client."""

    def __init__(self) -> None:
        self.loop = asyncio.new_event_loop()
        asyncio.set_event_loop(self.loop)
        self.run(self.open())

    def run(self, work: Coroutine[Any, Any, Any]) -> Any:
        return self.loop.run_until_complete(work)

    @abstractmethod
    async def open(self) -> None:
        """Connect."""

    @abstractmethod
    async def send(self, task: str = "noop") -> object:
        """Enqueue one task."""

    @abstractmethod
    async def call(self) -> object:
        """Enqueue one no-op task and wait for its result."""

    @abstractmethod
    async def submit_stamp(self) -> Coroutine[Any, Any, float]:
        """Send one `stamp` task; return a coroutine that waits for its value."""

    async def send_batch(self, count: int, task: str = "noop") -> None:
        """Enqueue `count` tasks by the fastest documented way."""
        for start in range(0, count, WINDOW):
            await asyncio.gather(*(self.send(task) for _ in range(min(WINDOW, count - start))))

    def send_many(self, count: int, task: str = "noop") -> None:
        self.run(self.send_batch(count, task))

    def send_for(self, seconds: float) -> tuple[int, float]:
        return self.run(self._repeat(self.send, seconds, CHECK_EVERY))

    def call_for(self, seconds: float) -> tuple[int, float]:
        return self.run(self._repeat(self.call, seconds, 1))

    def latency(self) -> float:
        async def once() -> float:
            sent = time.monotonic()
            return await (await self.submit_stamp()) - sent

        return self.run(once())

    def send_stamp(self) -> Callable[[], float]:
        waiting = self.run(self.submit_stamp())
        return lambda: self.run(waiting)

    async def _repeat(
        self, call: Callable[[], Coroutine[Any, Any, object]], seconds: float, check_every: int
    ) -> tuple[int, float]:
        count = 0
        start = now = time.perf_counter()
        while now - start < seconds:
            for _ in range(check_every):
                await call()
            count += check_every
            now = time.perf_counter()
        return count, now - start
