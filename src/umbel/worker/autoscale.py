"""The part of a worker that asks its autoscaler how large it should be, and resizes the pool."""

from __future__ import annotations

import asyncio
import logging
import os
import time
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import psutil

from umbel.autoscaling import Autoscaler, Cooldown, Stats
from umbel.bootsteps import HookThread
from umbel.bootsteps.hooks import PATIENCE
from umbel.config.loading import load_object
from umbel.errors import ConfigurationError
from umbel.worker.maintenance import Upkeep

if TYPE_CHECKING:
    from umbel.worker.consumer import WorkerConsumer
    from umbel.worker.supervisor import Worker

logger = logging.getLogger("umbel.worker.autoscale")

_CELERYS_OWN = "celery.worker.autoscale:Autoscaler"
_LONGEST_DECISION = 10.0


class Autoscaling(Upkeep):
    """Resizes the pool between the limits of ``--autoscale``."""

    conditional = True

    def __init__(self, consumer: WorkerConsumer, **options: Any) -> None:
        super().__init__(consumer, **options)
        worker = consumer.controller
        self.enabled = worker.bounds is not None
        if worker.bounds is None:
            return
        self.bounds = worker.bounds
        self.autoscaler = find_autoscaler(worker.app.conf.worker_autoscaler)(
            worker.app, self.bounds.minimum, self.bounds.maximum
        )
        self.period = self.autoscaler.period
        self._cooldown = Cooldown(worker.app.conf.worker_autoscale_cooldown)
        self._hooks = HookThread("umbel-autoscaler")
        self._changed_at = time.monotonic()
        self._complaint = ""

    async def act(self, consumer: WorkerConsumer) -> None:
        worker = consumer.controller
        stats = await self._look(worker)
        try:
            answer = await self._hooks.call(self.autoscaler.desired, stats, timeout=_LONGEST_DECISION)
            if not isinstance(answer, int):
                raise TypeError(f"desired() must answer a whole number, not {answer!r}")
        except Exception as error:
            if repr(error) != self._complaint:
                self._complaint = repr(error)
                logger.exception("the autoscaler failed, the size stays as it is")
            return
        self._complaint = ""
        size = self._cooldown.settle(self.bounds.clamp(answer), time.monotonic())
        assert worker.pool is not None
        if not worker.stopping and worker.pool.resize(*worker.size.part(size)):
            self._changed_at = time.monotonic()
            data = {"from": stats.size, "to": worker.pool.capacity, "busy": stats.busy, "waiting": stats.waiting}
            logger.info("resized", extra={"data": data})

    async def stop(self, consumer: WorkerConsumer) -> None:
        await super().stop(consumer)
        self._hooks.close(PATIENCE)

    async def _look(self, worker: Worker) -> Stats:
        assert worker.pool is not None
        queues: Mapping[str, int] = {}
        if "queues" in self.autoscaler.measures:
            queues = await asyncio.to_thread(_ready, worker)
        memory = await asyncio.to_thread(_memory) if "memory" in self.autoscaler.measures else 0
        busy, held = worker.flow.load()
        return Stats(
            size=worker.pool.capacity,
            minimum=self.bounds.minimum,
            maximum=self.bounds.maximum,
            busy=busy,
            held=held,
            runtime=worker.flow.dispatcher.durations.overall,
            load=os.getloadavg()[0],
            since_change=time.monotonic() - self._changed_at,
            queues=queues,
            memory=memory,
        )


def find_autoscaler(given: str | type[Any] | None) -> type[Autoscaler]:
    """The class that ``worker_autoscaler`` names; Umbel's own for None and for Celery's default.

    Raises ConfigurationError for what is no class of autoscalers.
    """
    if given is None or given == _CELERYS_OWN:
        return Autoscaler
    found = load_object(given) if isinstance(given, str) else given
    if not (isinstance(found, type) and issubclass(found, Autoscaler)):
        raise ConfigurationError(f"worker_autoscaler is {given!r}, which does not derive from umbel.Autoscaler")
    return found


def _ready(worker: Worker) -> dict[str, int]:
    return {queue.name: worker.app.broker.size(queue.name).ready for queue in worker.queues}


def _memory() -> int:
    """Resident KiB of this process and all below it."""
    this = psutil.Process()
    total = this.memory_info().rss
    for process in this.children(recursive=True):
        try:
            total += process.memory_info().rss
        except psutil.NoSuchProcess:
            continue
    return total // 1024
