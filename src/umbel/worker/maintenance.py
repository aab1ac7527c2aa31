"""What a worker does from time to time: bring back parked messages, and watch that work makes progress."""

from __future__ import annotations

import asyncio
import contextlib
import faulthandler
import logging
import sys
import time
from typing import TYPE_CHECKING, Any

from umbel.bootsteps import StartStopStep
from umbel.errors import UmbelError
from umbel.worker.stopping import EXIT_STALLED

if TYPE_CHECKING:
    from umbel.worker.consumer import WorkerConsumer

logger = logging.getLogger("umbel.worker.maintenance")

PERIOD = 5.0
_CONNECTION = "umbel.worker.consumer:Connection"


class Upkeep(StartStopStep):
    """A step that acts every ``period`` seconds while there is a link to the broker."""

    blueprint = "consumer"
    requires = (_CONNECTION,)
    period = PERIOD
    pause = 0.0
    """Seconds before the first round."""

    def __init__(self, consumer: WorkerConsumer, **options: Any) -> None:
        super().__init__(consumer, **options)
        self._loop: asyncio.Task[None] | None = None

    async def act(self, consumer: WorkerConsumer) -> None:
        """One round. A system that cannot be reached is tried again in the next one."""
        raise NotImplementedError

    async def start(self, consumer: WorkerConsumer) -> None:
        self._loop = asyncio.get_running_loop().create_task(self._repeat(consumer))

    async def close(self, consumer: WorkerConsumer) -> None:
        await self.stop(consumer)

    async def stop(self, consumer: WorkerConsumer) -> None:
        if self._loop is not None:
            self._loop.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._loop
            self._loop = None

    async def _repeat(self, consumer: WorkerConsumer) -> None:
        await asyncio.sleep(self.pause)
        while True:
            try:
                await self.act(consumer)
            except UmbelError as error:
                logger.debug("%s is put off: %s", self.alias, error)
            except Exception:
                logger.exception("%s failed, and is tried again in %.1f s", self.alias, self.period)
            await asyncio.sleep(self.period)


class Parking(Upkeep):
    """Puts back parked messages whose tasks this worker knows."""

    async def act(self, consumer: WorkerConsumer) -> None:
        await asyncio.to_thread(self._unpark, consumer)

    def _unpark(self, consumer: WorkerConsumer) -> None:
        broker, known = consumer.app.broker, consumer.app.tasks
        for queue in consumer.controller.queues:
            tasks = [task for task in broker.parked(queue.name) if task in known]
            if tasks:
                count = broker.unpark(queue.name, tasks)
                logger.info("parked messages put back", extra={"data": {"queue": queue.name, "count": count}})


class Watchdog(Upkeep):
    """Work waits and lanes are free, but nothing was claimed for a while: a new link; and if that does not help, exit.

    See pain 2 of the requirements: a worker that lives but consumes nothing is worse than one that is dead.
    """

    conditional = True

    def __init__(self, consumer: WorkerConsumer, **options: Any) -> None:
        super().__init__(consumer, **options)
        self.timeout = consumer.app.conf.worker_stall_timeout
        self.enabled = bool(self.timeout)
        self.period = self.pause = min(PERIOD, self.timeout or PERIOD)
        self.restarted_at: float | None = None

    async def act(self, consumer: WorkerConsumer) -> None:
        worker, flow = consumer.controller, consumer.controller.flow
        if time.monotonic() - flow.last_progress < self.timeout or flow.busy():
            self.restarted_at = None if flow.busy() else self.restarted_at
            worker.stalled = worker.stalled and self.restarted_at is not None
            return
        queues = worker.queues
        sizes = [await asyncio.to_thread(consumer.app.broker.size, queue.name) for queue in queues]
        if not any(size.ready > 0 for size in sizes) or flow.busy():
            self.restarted_at = None
            worker.stalled = False
            return
        if self.restarted_at is not None and flow.last_progress < self.restarted_at:
            if time.monotonic() - self.restarted_at < self.timeout:
                return
            logger.critical("still nothing is claimed although work waits: the worker exits")
            worker.give_up(EXIT_STALLED)
            return
        faulthandler.dump_traceback(file=sys.stderr, all_threads=True)
        self.restarted_at = time.monotonic()
        worker.stalled = True
        consumer.request_restart(f"work waits, but nothing was claimed for {self.timeout:.0f} s")
