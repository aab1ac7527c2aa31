"""The supervisor: the life of a worker, from the first fork to the last settlement.

It never runs tasks. ``Worker.run`` prepares the steps that a worker is made of (``components``, ``consumer``, and what
users added), one of which forks the nursery while the process is still single-threaded; then an event loop starts and
stops them, while the work itself passes through ``flow`` in the threads of the link.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import logging
import signal
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from umbel.autoscaling import Bounds
from umbel.bootsteps import Blueprint, HookThread, StartStopStep
from umbel.bootsteps.hooks import PATIENCE
from umbel.executors.board import Board
from umbel.executors.lanes import find_lanes
from umbel.limits.rates import RateLimits
from umbel.queues import worker_direct
from umbel.signals import celeryd_after_setup, celeryd_init, worker_init, worker_shutdown, worker_shutting_down
from umbel.worker.components import STEPS
from umbel.worker.deduplication import DoneBefore
from umbel.worker.ending_tasks import TaskEnder
from umbel.worker.flow import Flow
from umbel.worker.heap import share_one_heap
from umbel.worker.size import size_of
from umbel.worker.stacks import dump_on_signal
from umbel.worker.stopping import EXIT_FAILURE, Shutdown
from umbel.worker.time_limits import HardLimits, refuse_hard_limits

if TYPE_CHECKING:
    from umbel.app import Umbel
    from umbel.worker.consumer import WorkerConsumer
    from umbel.worker.pool import ExecutorHandle, Pool, ProcessSource
    from umbel.worker.revocations import Revoked
    from umbel.worker.timer import Timer

logger = logging.getLogger("umbel.worker")

_GARBAGE_THRESHOLD = 20_000
"""Objects made between collections: what passes through the supervisor makes no cycles."""

_SOFTER = (None, Shutdown.WARM)
"""What a soft shutdown may follow."""

_START_TIMEOUT = 10.0
"""Seconds that a step which is being started may take when the worker is to stop."""


class Worker:
    """One worker node.

    ``pool``: the kind of lanes, by name. ``concurrency``: lanes of each process; with ``prefork``, processes.
    ``processes``: how many of them, 1 where not given. ``queues``/``exclude``: names, default all configured.
    ``hostname``: node name. ``grace``: seconds for which a warm shutdown waits for running tasks; None: for ever.
    ``options``: what the command line said, for ``__init__`` of boot steps and receivers of ``celeryd_init``.
    ``embedded``: the process is not the worker's own, and ``run`` is called in any thread of it: signals, memory
    management and the application's connections are left alone.
    """

    generations = 2
    """Room for so many times the executors that work: others are about to exit while their successors begin."""

    nursery: ProcessSource | None = None
    pool: Pool | None = None
    timer: Timer
    consumer: WorkerConsumer
    revoked: Revoked

    def __init__(
        self,
        app: Umbel,
        *,
        pool: str | None = None,
        concurrency: int | None = None,
        processes: int | None = None,
        queues: Sequence[str] | None = None,
        exclude: Sequence[str] | None = None,
        hostname: str,
        grace: float | None = None,
        options: Mapping[str, Any] | None = None,
        embedded: bool = False,
    ) -> None:
        conf = app.conf
        self.app = app
        self.embedded = embedded
        self.hostname = hostname
        self.options = dict(options or {})
        celeryd_init.send(sender=hostname, instance=self, conf=conf, options=self.options)
        self.kind = find_lanes(pool or conf.worker_pool)
        self.bounds = Bounds.parse(conf.worker_autoscale) if conf.worker_autoscale else None
        self.size = size_of(self.kind, conf, concurrency, processes, self.bounds)
        """What the worker has room for; its size, unless it has ``bounds`` between which it is scaled."""
        self.first_size = self.size if self.bounds is None else self.size.part(self.bounds.clamp(0))
        self.concurrency = self.size.processes * self.size.lanes
        self.queues = app.consume_queues(queues, exclude)
        if conf.worker_direct:
            self.queues = [*self.queues, worker_direct(hostname)]
        self.grace = grace if grace is not None else conf.worker_shutdown_grace
        self.exit_code = 0
        self.started_at = time.monotonic()
        self.stalled = False
        """Work waits, but nothing was claimed for ``worker_stall_timeout`` and not since either."""
        self.board = Board(self.generations * self.concurrency)
        self.flow = Flow(app, self.board, self._executors, self._notify, self._on_retired, self._on_link_broken, self)
        self.ender = TaskEnder(
            self.flow, self.board, lambda: self.pool, conf.worker_cancel_grace, self.kind.in_supervisor
        )
        self.hard_limits = HardLimits(app, self.flow, self.board, self._executors, self.ender, self.call_soon, hostname)
        self.flow.expect_hard_limits(self.hard_limits.expect)
        if conf.worker_deduplicate_successful_tasks:
            self.flow.gates.add(DoneBefore(app))
        self.rates = RateLimits(app, self.flow.gates, self.flow.intake.refused)
        self.steps: list[StartStopStep] = []
        self.hooks = HookThread("umbel-steps")
        self.blueprint = Blueprint(app.steps["worker"], "worker", default_steps=STEPS, hooks=self.hooks)
        self._shutdown: Shutdown | None = None
        self._failure: Exception | None = None
        self._changed = asyncio.Event()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._asking = threading.Lock()
        self._asked: tuple[Shutdown, int] | None = None

    def run(self) -> int:
        """Work until told to stop; returns the exit code. The process must have no other threads yet, unless the worker
        is ``embedded``.

        Raises ConfigurationError for hard time limits that the pool cannot enforce; StepError for a step that cannot be
        ordered, made or started, in the end, when all is stopped.
        """
        self.app.finalize()
        if self.kind.in_supervisor and not self.embedded:
            refuse_hard_limits(self.app, self.kind.name)
        worker_init.send(sender=self)
        celeryd_after_setup.send(sender=self.hostname, instance=self, conf=self.app.conf)
        drivers = f"{type(self.app.broker).__name__}, {type(self.app.backend).__name__}"
        logger.debug("drivers were loaded once, before executors are forked: %s", drivers)
        if not self.embedded:
            dump_on_signal()
        try:
            self.blueprint.apply(self, **self.options)
            self.rates.read()  # their gate is the last, behind those of the steps
            if not self.embedded:
                self._own_the_process()
            asyncio.run(self._main())
        finally:
            if self.nursery is not None:
                self.nursery.close()
            self.flow.close()
            worker_shutdown.send(sender=self)
            if not self.embedded:
                self.app.close()
            self.board.close()
        return self.exit_code

    def _own_the_process(self) -> None:
        """Set its memory up for a supervisor."""
        gc.freeze()
        gc.set_threshold(_GARBAGE_THRESHOLD)
        if not self.kind.in_supervisor:
            share_one_heap()

    # -- life --

    async def _main(self) -> None:
        with self._asking:
            self._loop = asyncio.get_running_loop()
        if self._asked is not None:
            self.shut_down(*self._asked)
        try:
            starting = self._loop.create_task(self._start())
            await self.until(lambda: self.stopping)
            await asyncio.wait({starting}, timeout=_START_TIMEOUT)
            starting.cancel()
            await asyncio.wait({starting})
        finally:
            await self.blueprint.close(self)
            await self.blueprint.stop(self, terminate=self.is_cold)
            await self.blueprint.shutdown(self)
            self.hooks.close(PATIENCE)
        if self._failure is not None:
            raise self._failure

    async def _start(self) -> None:
        try:
            await self.blueprint.start(self)
        except Exception as error:
            self.fail(error)

    @property
    def stopping(self) -> bool:
        """Whether a shutdown has begun."""
        return self._shutdown is not None

    def is_warm(self) -> bool:
        """Whether running tasks are waited for as long as the grace time lasts."""
        return self._shutdown is Shutdown.WARM

    def is_soft(self) -> bool:
        """Whether running tasks are waited for as long as ``worker_soft_shutdown_timeout``."""
        return self._shutdown is Shutdown.SOFT

    def is_cold(self) -> bool:
        """Whether running tasks are not waited for."""
        return self._shutdown is Shutdown.COLD

    async def until(self, condition: Callable[[], bool], timeout: float | None = None) -> bool:
        """Wait until ``condition`` is true, checked after every change; false after ``timeout`` seconds."""
        deadline = None if timeout is None else time.monotonic() + timeout
        while not condition():
            self._changed.clear()
            remaining = None if deadline is None else deadline - time.monotonic()
            if remaining is not None and remaining <= 0:
                return False
            try:
                await asyncio.wait_for(self._changed.wait(), remaining)
            except TimeoutError:
                return condition()
        return True

    def call_soon(self, function: Callable[..., None], *args: Any) -> None:
        """Call a function in the event loop; any thread."""
        if self._loop is not None:
            self._loop.call_soon_threadsafe(function, *args)

    def _notify(self) -> None:
        """Something has changed; any thread."""
        self.call_soon(self._changed.set)

    # -- stopping --

    def on_signal(self, request: Shutdown, number: signal.Signals) -> None:
        """A signal asks for a shutdown; when one has begun, for a cold one, or first for a soft one. Loop thread."""
        request = Shutdown.COLD if self.stopping else request
        if request is Shutdown.COLD and self.app.conf.worker_soft_shutdown_timeout and self._shutdown in _SOFTER:
            request = Shutdown.SOFT
        self.shut_down(request, number=number)

    def shut_down(self, how: Shutdown, exit_code: int = 0, number: signal.Signals | None = None) -> None:
        """Begin to stop; a second, colder request overtakes the first. Loop thread. ``number``: who asked for it."""
        if self._shutdown is None or how > self._shutdown:
            logger.info("%s shutdown", how.name.lower())
            self.exit_code = self.exit_code or exit_code
            self._stop(how, number)

    def request_shutdown(self, how: Shutdown, exit_code: int = 0) -> None:
        """As ``shut_down``, from any thread at any time: a worker that does not run yet stops as soon as it does."""
        with self._asking:
            if self._loop is None:
                self._asked = max(self._asked or (how, exit_code), (how, exit_code))
                return
        with contextlib.suppress(RuntimeError):  # its loop has ended
            self._loop.call_soon_threadsafe(self.shut_down, how, exit_code)

    def give_up(self, exit_code: int) -> None:
        """Cold shutdown with this exit code; what is wrong was logged. Loop thread."""
        self.shut_down(Shutdown.COLD, exit_code)

    def fail(self, error: Exception) -> None:
        """Stop as in a warm shutdown, and raise ``error`` in the end. Loop thread."""
        self._failure = self._failure or error
        if not self.stopping:
            self._stop(Shutdown.WARM)

    def _stop(self, how: Shutdown, number: signal.Signals | None = None) -> None:
        self._shutdown = how
        sig = number.name if number is not None else None
        worker_shutting_down.send(sender=self.hostname, sig=sig, how=how.name.capitalize(), exitcode=self.exit_code)
        self.blueprint.interrupt()
        self.consumer.blueprint.interrupt()
        self._changed.set()

    # -- the link and the pool --

    def _on_link_broken(self, error: BaseException) -> None:
        self.consumer.request_restart(str(error))

    def executor_count(self) -> int:
        """Executors that take tasks."""
        return sum(bool(executor.open) and not executor.stopping for executor in self._executors())

    def _executors(self) -> list[ExecutorHandle]:
        return list(self.pool.executors.values()) if self.pool is not None else []

    def _on_retired(self) -> None:
        if self.pool is not None:
            self.call_soon(self.pool.fill)

    def on_executor_started(self, executor: ExecutorHandle) -> None:
        self.flow.on_executor_started(executor)

    def on_executor_exit(self, executor: ExecutorHandle, status: int) -> None:
        self.flow.on_executor_exit(executor, status)

    def retire(self, executor: ExecutorHandle) -> None:
        self.flow.retire(executor)

    def open_lanes(self, executor: ExecutorHandle, lanes: int) -> None:
        self.flow.open_lanes(executor, lanes)

    def on_nursery_lost(self) -> None:
        logger.critical("the nursery process died; everything is given back and the worker exits")
        self.give_up(EXIT_FAILURE)
