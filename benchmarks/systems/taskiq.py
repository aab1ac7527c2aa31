"""taskiq on Redis by taskiq-redis, two worker processes, asyncio tasks on uvloop, orjson for messages.

`RedisStreamBroker` (acknowledged, and faster here than `ListQueueBroker`) and results in Redis. The result is
polled for, every millisecond (the default is 0.2 s).
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Coroutine
from typing import Any

from taskiq.serializers import ORJSONSerializer
from taskiq_redis import RedisAsyncResultBackend, RedisStreamBroker

from benchmarks.systems.base import BACKEND, BROKER, NAP, TASK_TIMEOUT, RedisCounts
from benchmarks.systems.base_async import AsyncDriver

broker = (
    RedisStreamBroker(BROKER, consumer_id="0")
    .with_result_backend(RedisAsyncResultBackend(BACKEND, serializer=ORJSONSerializer()))
    .with_serializer(ORJSONSerializer())
)


@broker.task
async def noop() -> int:
    return 1


@broker.task
async def stamp() -> float:
    return time.monotonic()


@broker.task
async def nap() -> int:
    await asyncio.sleep(NAP)
    return 1


TASKS = {"noop": noop, "nap": nap}


class Driver(AsyncDriver):
    async def open(self) -> None:
        await broker.startup()

    async def send(self, task: str = "noop") -> object:
        return await TASKS[task].kiq()

    async def call(self) -> object:
        task = await noop.kiq()
        return await task.wait_result(check_interval=0.001, timeout=TASK_TIMEOUT)

    async def submit_stamp(self) -> Coroutine[Any, Any, float]:
        task = await stamp.kiq()

        async def value() -> float:
            result = await task.wait_result(check_interval=0.01, timeout=TASK_TIMEOUT)
            return result.return_value

        return value()

    def watch(self, expected: int) -> Callable[[], int]:
        return RedisCounts(BACKEND).new_keys()
