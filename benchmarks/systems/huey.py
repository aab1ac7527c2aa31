"""Huey on Redis and on SQLite, two worker processes.

`notify_result` (a blocking wait instead of polling) is on only where the client waits for results: it costs two
Redis commands a task, which would slow the drain.
"""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Callable

from huey import RedisHuey, SqliteHuey

from benchmarks.systems.base import BROKER, FIGURE, NAP, TASK_TIMEOUT, RedisCounts, SyncDriver

ON_SQLITE = BROKER.startswith("sqlite")
if ON_SQLITE:
    huey = SqliteHuey("bench", filename=BROKER.removeprefix("sqlite:///"), timeout=30)
else:
    huey = RedisHuey("bench", url=BROKER, notify_result=FIGURE == "roundtrip")


@huey.task()
def noop() -> int:
    return 1


@huey.task()
def stamp() -> float:
    return time.monotonic()


@huey.task()
def nap() -> int:
    time.sleep(NAP)
    return 1


TASKS = {"noop": noop, "nap": nap}


class Driver(SyncDriver):
    def send(self, task: str = "noop") -> object:
        return TASKS[task]()

    def call(self) -> object:
        return noop().get(blocking=True, timeout=TASK_TIMEOUT, backoff=1, max_delay=0.001)

    def send_stamp(self) -> Callable[[], float]:
        result = stamp()
        return lambda: result.get(blocking=True, timeout=TASK_TIMEOUT)

    def watch(self, expected: int) -> Callable[[], int]:
        if not ON_SQLITE:
            counts = RedisCounts(BROKER)
            return lambda: counts.client.hlen(huey.storage.result_key)
        reader = sqlite3.connect(BROKER.removeprefix("sqlite:///"), isolation_level=None)
        return lambda: reader.execute("select count(*) from kv").fetchone()[0]

    def poll_interval(self) -> float:
        return 0.1 if ON_SQLITE else 0.02
