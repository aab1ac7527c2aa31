"""PgQueuer on PostgreSQL by asyncpg, two worker processes.

It keeps no return values: "result stored" is its log of the job's final status, written in the statement that
deletes the job. Its worker is `pgqueuer.run` on uvloop, which is what `pgq run` does: that command itself fails with
the pinned versions (`'str' object has no attribute 'name'`, from its `--log-level`).
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from typing import Any

import asyncpg
import pgqueuer
from pgqueuer import PgQueuer, Queries
from pgqueuer.models import Job

from benchmarks.systems.base import BROKER
from benchmarks.systems.base_async import AsyncDriver

CHUNK = 1000
BATCH_SIZE = 100


@asynccontextmanager
async def create() -> AsyncIterator[PgQueuer]:
    connection = await asyncpg.connect(BROKER)
    manager = PgQueuer.from_asyncpg_connection(connection)

    @manager.entrypoint("noop")
    async def noop(job: Job) -> None:
        pass

    try:
        yield manager
    finally:
        await connection.close()


class Driver(AsyncDriver):
    async def open(self) -> None:
        self.connection = await asyncpg.connect(BROKER)
        self.queries = Queries.from_asyncpg_connection(self.connection)

    def prepare(self) -> None:
        self.run(self.queries.install())

    async def send(self, task: str = "noop") -> object:
        return await self.queries.enqueue(task, None)

    async def send_batch(self, count: int, task: str = "noop") -> None:
        for start in range(0, count, CHUNK):
            size = min(CHUNK, count - start)
            await self.queries.enqueue([task] * size, [None] * size, [0] * size)

    async def call(self) -> object:
        raise NotImplementedError("PgQueuer has no results to wait for")

    async def submit_stamp(self) -> Coroutine[Any, Any, float]:
        raise NotImplementedError("PgQueuer has no results to wait for")

    def watch(self, expected: int) -> Callable[[], int]:
        async def done() -> int:
            if left := await self.connection.fetchval("select count(*) from pgqueuer"):
                return expected - left
            successful = "select count(*) from pgqueuer_log where status = 'successful'"
            return await self.connection.fetchval(successful)

        return lambda: self.run(done())

    def poll_interval(self) -> float:
        return 0.1


if __name__ == "__main__":
    import uvloop

    uvloop.run(pgqueuer.run(create, batch_size=BATCH_SIZE))
