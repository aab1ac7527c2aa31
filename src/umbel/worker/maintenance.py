"""What a worker does from time to time: bring back parked messages, and watch that work makes progress."""

from __future__ import annotations

import asyncio
import faulthandler
import logging
import sys
import time
from typing import TYPE_CHECKING

from umbel.errors import UmbelError

if TYPE_CHECKING:
    from umbel.worker.supervisor import Worker

logger = logging.getLogger("umbel.worker.maintenance")

PERIOD = 5.0
_EXIT_STALLED = 75


async def maintain(worker: Worker) -> None:
    """Until cancelled: every ``PERIOD`` seconds, unpark what this worker knows and look for a stall; more often where
    a stall is to be found sooner."""
    watchdog = _Watchdog(worker)
    pause = min(PERIOD, worker.app.conf.worker_stall_timeout or PERIOD)
    while True:
        if worker.link is not None:
            try:
                await asyncio.to_thread(_unpark, worker)
                await watchdog.look()
            except UmbelError as error:
                logger.debug("upkeep is put off: %s", error)
        await asyncio.sleep(pause)


def _unpark(worker: Worker) -> None:
    broker, known = worker.app.broker, worker.app.tasks
    for queue in worker.queues:
        tasks = [task for task in broker.parked(queue.name) if task in known]
        if tasks:
            count = broker.unpark(queue.name, tasks)
            logger.info("parked messages put back", extra={"data": {"queue": queue.name, "count": count}})


class _Watchdog:
    """Work waits and lanes are free, but nothing was claimed for a while: a new link; and if that does not help, exit.

    See pain 2 of the requirements: a worker that lives but consumes nothing is worse than one that is dead.
    """

    def __init__(self, worker: Worker) -> None:
        self.worker = worker
        self.restarted_at: float | None = None

    async def look(self) -> None:
        from umbel.worker.supervisor import Shutdown

        worker = self.worker
        timeout = worker.app.conf.worker_stall_timeout
        idle_since = worker.flow.last_progress
        if not timeout or time.monotonic() - idle_since < timeout or worker.flow.busy():
            self.restarted_at = None if worker.flow.busy() else self.restarted_at
            worker.stalled = worker.stalled and self.restarted_at is not None
            return
        sizes = [await asyncio.to_thread(worker.app.broker.size, queue.name) for queue in worker.queues]
        if not any(size.ready > 0 for size in sizes) or worker.flow.busy():
            self.restarted_at = None
            worker.stalled = False
            return
        if self.restarted_at is not None and worker.flow.last_progress < self.restarted_at:
            if time.monotonic() - self.restarted_at < timeout:
                return
            logger.critical("still nothing is claimed although work waits: the worker exits")
            worker.shut_down(Shutdown.COLD, _EXIT_STALLED)
            return
        faulthandler.dump_traceback(file=sys.stderr, all_threads=True)
        self.restarted_at = time.monotonic()
        worker.stalled = True
        await worker.restart_link(f"work waits, but nothing was claimed for {timeout:.0f} s")
