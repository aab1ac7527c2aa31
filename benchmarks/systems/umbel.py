"""Umbel on all its brokers, with nothing set but where they are (and on RabbitMQ a quorum queue, but not with `rpc://`)."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

from benchmarks.systems.base import BACKEND, BROKER, QUEUE, TASK_TIMEOUT, RedisCounts, SyncDriver
from umbel import Umbel

settings: dict[str, Any] = {"task_default_queue": QUEUE}
if BROKER.startswith("amqp") and not BACKEND.startswith("rpc"):
    settings["task_default_queue_type"] = "quorum"
app = Umbel("bench", broker=BROKER, backend=BACKEND, **settings)

CHUNK = 5000
ON_SQL = BROKER.startswith(("sqlite", "postgresql"))


@app.task
def noop() -> int:
    return 1


@app.task
def stamp() -> float:
    return time.monotonic()


class Driver(SyncDriver):
    def send(self) -> object:
        return noop.delay()

    def send_many(self, count: int) -> None:
        for start in range(0, count, CHUNK):
            app.send_many([noop.s() for _ in range(min(CHUNK, count - start))])

    def call(self) -> object:
        return noop.delay().get(timeout=TASK_TIMEOUT)

    def send_stamp(self) -> Callable[[], float]:
        result = stamp.delay()
        return lambda: result.get(timeout=TASK_TIMEOUT)

    def watch(self, expected: int) -> Callable[[], int]:
        return self._watch_sql(expected) if ON_SQL else self._watch_redis(expected)

    def poll_interval(self) -> float:
        return 0.1 if ON_SQL else 0.02

    def cleanup(self) -> None:
        if BROKER.startswith("amqp"):
            import pika

            connection = pika.BlockingConnection(pika.URLParameters(BROKER))
            connection.channel().queue_delete(QUEUE)
            connection.close()

    def _watch_redis(self, expected: int) -> Callable[[], int]:
        counts = RedisCounts(BACKEND)
        new_keys = counts.new_keys()

        def done() -> int:
            """All new keys, worker's own ones too, until there are enough: then the results one by one."""
            if (keys := new_keys()) < expected:
                return keys
            return sum(1 for _ in counts.client.scan_iter("celery-task-meta-*", count=10_000))

        return done

    def _watch_sql(self, expected: int) -> Callable[[], int]:
        if BROKER.startswith("sqlite"):
            import sqlite3

            reader: Any = sqlite3.connect(BROKER.removeprefix("sqlite:///"), isolation_level=None)
        else:
            import psycopg

            reader = psycopg.connect(BROKER, autocommit=True)

        def count(table: str) -> int:
            return reader.execute(f"select count(*) from {table}").fetchone()[0]

        def done() -> int:
            left = count("umbel_messages")
            return expected - left if left else count("celery_taskmeta")

        return done
