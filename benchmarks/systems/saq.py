"""saq on Redis, two worker processes of asyncio tasks; results stay in the job's key.

`apply` polls for the result, here every millisecond (the default is 0.5 s).
`Job.refresh(until_complete=…)` is not used: it misses a job that is done before it has subscribed, and waits for ever.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Coroutine
from typing import Any

from saq import Queue

from benchmarks.systems.base import BROKER, FIGURE, NAP, QUEUE, TASK_TIMEOUT, RedisCounts
from benchmarks.systems.base_async import WINDOW, AsyncDriver

queue = Queue.from_url(BROKER, name=QUEUE, max_concurrent_ops=WINDOW)


async def noop(ctx: dict[str, Any]) -> int:
    return 1


async def stamp(ctx: dict[str, Any]) -> float:
    return time.monotonic()


async def nap(ctx: dict[str, Any]) -> int:
    await asyncio.sleep(NAP)
    return 1


settings = {"queue": queue, "functions": [noop, stamp, nap], "concurrency": 50 if FIGURE.startswith("sleep") else 20}


class Driver(AsyncDriver):
    async def open(self) -> None:
        await queue.connect()

    async def send(self, task: str = "noop") -> object:
        return await queue.enqueue(task)

    async def call(self) -> object:
        return await queue.apply("noop", timeout=TASK_TIMEOUT, poll_interval=0.001)

    async def submit_stamp(self) -> Coroutine[Any, Any, float]:
        job = await queue.enqueue("stamp")
        assert job is not None

        async def value() -> float:
            async with asyncio.timeout(TASK_TIMEOUT):
                while not job.completed:
                    await asyncio.sleep(0.005)
                    await job.refresh()
            return job.result

        return value()

    def watch(self, expected: int) -> Callable[[], int]:
        counts = RedisCounts(BROKER)
        incomplete = queue.namespace("incomplete")
        return lambda: expected - counts.client.zcard(incomplete)
