"""Procrastinate on PostgreSQL by psycopg, two worker processes of asyncio tasks.

It keeps no return values: "result stored" is the job's row with its final status.
"""

from __future__ import annotations

from collections.abc import Callable

import psycopg
from procrastinate import App, PsycopgConnector

from benchmarks.systems.base import BROKER, SyncDriver

CHUNK = 1000

app = App(connector=PsycopgConnector(conninfo=BROKER))


@app.task
async def noop() -> int:
    return 1


class Driver(SyncDriver):
    def __init__(self) -> None:
        app.open()
        self.reader = psycopg.connect(BROKER, autocommit=True)

    def prepare(self) -> None:
        app.schema_manager.apply_schema()

    def send(self, task: str = "noop") -> object:
        return noop.defer()

    def send_many(self, count: int, task: str = "noop") -> None:
        for start in range(0, count, CHUNK):
            noop.batch_defer(*({} for _ in range(min(CHUNK, count - start))))

    def call(self) -> object:
        raise NotImplementedError("Procrastinate has no results to wait for")

    def send_stamp(self) -> Callable[[], float]:
        raise NotImplementedError("Procrastinate has no results to wait for")

    def watch(self, expected: int) -> Callable[[], int]:
        def count(statuses: str) -> int:
            query = f"select count(*) from procrastinate_jobs where status in ({statuses})"
            return self.reader.execute(query).fetchone()[0]

        def done() -> int:
            left = count("'todo', 'doing'")
            return expected - left if left else count("'succeeded'")

        return done

    def poll_interval(self) -> float:
        return 0.1
