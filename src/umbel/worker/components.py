"""The steps of every worker. What each one starts it also stops."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from umbel.bootsteps import StartStopStep
from umbel.signals import worker_ready
from umbel.worker import pool, timer
from umbel.worker.consumer import WorkerConsumer
from umbel.worker.health import HealthServer
from umbel.worker.limiting import SharedLimits
from umbel.worker.sources import open_source
from umbel.worker.stacks import StackDumper
from umbel.worker.stopping import Shutdown

if TYPE_CHECKING:
    from umbel.worker.supervisor import Worker

_KILL_AFTER = 3.0
_READ_EVERY = 0.5


class Signals(StartStopStep):
    """TERM and INT: warm shutdown, cold when it has begun already; QUIT: cold. Heard until the end.

    Then the process ends by itself, with its own exit code, which a late signal must not take from it.
    """

    blueprint = "worker"
    requests = {signal.SIGTERM: Shutdown.WARM, signal.SIGINT: Shutdown.WARM, signal.SIGQUIT: Shutdown.COLD}

    def include_if(self, worker: Worker) -> bool:
        return not worker.embedded

    async def start(self, worker: Worker) -> None:
        loop = asyncio.get_running_loop()
        requests = dict(self.requests)
        if os.environ.get("REMAP_SIGTERM") == "SIGQUIT":
            requests[signal.SIGTERM] = Shutdown.COLD
        for number, request in requests.items():
            loop.add_signal_handler(number, worker.on_signal, request, number)

    async def shutdown(self, worker: Worker) -> None:
        loop = asyncio.get_running_loop()
        for number in self.requests:
            if loop.remove_signal_handler(number):
                signal.signal(number, signal.SIG_IGN)


class Health(StartStopStep):
    """Answers ``umbel health`` and probes over HTTP until the end."""

    blueprint = "worker"
    requires = (Signals,)

    def create(self, worker: Worker) -> None:
        self.server = HealthServer(worker)

    async def start(self, worker: Worker) -> None:
        await self.server.start()

    async def close(self, worker: Worker) -> None:
        if worker.app.conf.worker_reload:
            self.server.close()  # its successor answers already

    async def shutdown(self, worker: Worker) -> None:
        self.server.close()


class Timer(StartStopStep):
    """``worker.timer``, for the steps of users."""

    blueprint = "worker"

    def create(self, worker: Worker) -> None:
        worker.timer = timer.Timer()

    async def start(self, worker: Worker) -> None:
        worker.timer.start()

    async def shutdown(self, worker: Worker) -> None:
        worker.timer.stop()


class Pool(StartStopStep):
    """The nursery, forked while the process has one thread, and the executors.

    Stops when tasks that run have ended, or the grace time has; ends last, after their outcomes were settled.
    """

    blueprint = "worker"
    requires = (Signals, Health)
    stop_timeout = None

    def create(self, worker: Worker) -> None:
        lanes = worker.size.lanes
        worker.nursery = open_source(
            worker.kind, worker.app, worker.board, lanes, worker.hostname, embedded=worker.embedded
        )

    async def start(self, worker: Worker) -> None:
        assert worker.nursery is not None
        most, first = worker.size, worker.first_size
        worker.pool = executors = pool.Pool(
            worker.nursery,
            first.processes,
            worker,
            most.lanes,
            worker.generations * most.processes,
            first.lanes,
            interruptible=worker.kind.interruptible,
        )
        if not worker.embedded:
            StackDumper(executors, worker.board)
        executors.start()

    async def stop(self, worker: Worker) -> None:
        flow, executors = worker.flow, worker.pool
        assert executors is not None
        reading = asyncio.create_task(self._read_reports(worker))
        await worker.until(lambda: not worker.is_warm() or not flow.busy(), worker.grace)
        if worker.is_soft():
            conf = worker.app.conf
            always = conf.worker_enable_soft_shutdown_on_idle
            await worker.until(
                lambda: worker.is_cold() or not (always or flow.busy()), conf.worker_soft_shutdown_timeout
            )
        if flow.busy():
            flow.abandon_running()
            executors.kill()
        executors.stop()
        if not await executors.wait_stopped(_KILL_AFTER):
            executors.kill()
            await executors.wait_stopped(_KILL_AFTER)
        reading.cancel()

    async def _read_reports(self, worker: Worker) -> None:
        while True:
            await asyncio.sleep(_READ_EVERY)
            worker.flow.read_reports()

    async def shutdown(self, worker: Worker) -> None:
        if worker.pool is not None:
            worker.pool.close()

    def info(self, obj: Worker) -> Mapping[str, Any]:
        executors = obj.pool.executors.values() if obj.pool is not None else ()
        processes = [executor.pid for executor in executors if executor.pid]
        return {"pool": {"max-concurrency": obj.concurrency, "processes": processes}}


class Consumer(StartStopStep):
    """The consuming side; see ``umbel.worker.consumer``. Its steps are made before any step is created."""

    blueprint = "worker"
    requires = (Pool,)
    last = True
    stop_timeout = None

    def __init__(self, worker: Worker, **options: Any) -> None:
        super().__init__(worker, **options)
        worker.consumer = WorkerConsumer(worker, options)

    async def start(self, worker: Worker) -> None:
        await worker.consumer.start()
        if worker_ready.receivers and not worker.stopping:
            await asyncio.to_thread(worker_ready.send, sender=worker)

    async def close(self, worker: Worker) -> None:
        await worker.consumer.close()

    async def stop(self, worker: Worker) -> None:
        await worker.consumer.stop()

    async def shutdown(self, worker: Worker) -> None:
        await worker.consumer.shutdown()

    def info(self, obj: Worker) -> Mapping[str, Any]:
        return obj.consumer.blueprint.info(obj.consumer)


STEPS = (Signals, Health, Timer, SharedLimits, Pool, Consumer)
"""The steps of every worker."""
