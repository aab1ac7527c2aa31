"""Umbel on all its brokers, with nothing set but where they are (and on RabbitMQ a quorum queue, but not with `rpc://`)."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import Any

from benchmarks.systems.base import BACKEND, BROKER, FIGURE, NAP, QUEUE, TASK_TIMEOUT, RedisCounts, SyncDriver
from umbel import Umbel
from umbel.options import TaskOptions

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


@app.task
def total(numbers: list[int]) -> int:
    return sum(numbers)


@app.task
async def noop_async() -> int:
    return 1


@app.task
def nap() -> int:
    time.sleep(NAP)
    return 1


@app.task
async def nap_async() -> int:
    await asyncio.sleep(NAP)
    return 1


@app.task
def short() -> int:
    time.sleep(0.001)
    return 1


@app.task
def long() -> int:
    time.sleep(5)
    return 1


if FIGURE == "rate":

    @app.task(rate_limit="500/s", rate_limit_scope="cluster")
    def limited() -> float:
        return time.monotonic()


class Driver(SyncDriver):
    def __init__(self) -> None:
        self._ids: dict[str, list[str]] = {}

    def send(self, task: str = "noop") -> object:
        return app.tasks[f"{__name__}.{task}"].delay()

    def send_many(self, count: int, task: str = "noop") -> None:
        chosen = app.tasks[f"{__name__}.{task}"]
        for start in range(0, count, CHUNK):
            app.send_many([chosen.s() for _ in range(min(CHUNK, count - start))])

    def canvas(self, what: str, **arguments: int) -> float:
        """A request of `systems.canvases`."""
        import umbel
        from benchmarks.systems.canvases import Canvases

        return getattr(Canvases(app, umbel, __name__), what)(**arguments)

    def has_option(self, name: str) -> bool:
        """Whether tasks have this option."""
        return hasattr(TaskOptions, name)

    def send_stamps(self, task: str, count: int) -> None:
        """Send tasks that return their moment; `stamps` tells what they returned."""
        chosen = app.tasks[f"{__name__}.{task}"]
        self._ids[task] = [result.id for result in app.send_many([chosen.s() for _ in range(count)])]

    def stamps(self, task: str) -> list[float]:
        """What those of `send_stamps` that are done returned, in order of time."""
        import json

        server, ids = RedisCounts(BACKEND).client, self._ids[task]
        found: list[Any] = []
        for start in range(0, len(ids), CHUNK):
            found += server.mget([f"celery-task-meta-{each}" for each in ids[start : start + CHUNK]])
        return sorted(json.loads(meta)["result"] for meta in found if meta is not None)

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
