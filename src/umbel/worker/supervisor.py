"""The supervisor: the life of a worker, from the first fork to the last settlement.

It never runs user code. ``Worker.run`` forks the nursery while the process is still single-threaded; then an event
loop owns the pool of executors, the link to the broker, signals and upkeep, while the work itself passes through
``flow`` in the threads of the link.
"""

from __future__ import annotations

import asyncio
import enum
import gc
import logging
import os
import signal
import time
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from umbel.errors import OperationalError, UmbelError
from umbel.executors.board import Board
from umbel.executors.executor import run_executor
from umbel.executors.nursery import Nursery
from umbel.worker.flow import Flow
from umbel.worker.health import HealthServer
from umbel.worker.link import Link
from umbel.worker.maintenance import maintain
from umbel.worker.pool import ExecutorHandle, Pool
from umbel.worker.stacks import StackDumper, dump_on_signal

if TYPE_CHECKING:
    from umbel.app import Umbel

logger = logging.getLogger("umbel.worker")

_KILL_AFTER = 3.0
_EXIT_FAILURE = 70
_GARBAGE_THRESHOLD = 20_000
"""Objects made between collections: what passes through the supervisor makes no cycles."""

_RESTART_SOON = 30.0
_LONGEST_RESTART_PAUSE = 5.0


class Shutdown(enum.IntEnum):
    """How the worker ends; a later request may only be colder."""

    WARM = 1
    """Running tasks finish, for at most the grace time; everything else is given back now."""
    SOFT = 2
    """Running tasks get ``worker_soft_shutdown_timeout`` seconds, then they are killed and given back."""
    COLD = 3
    """Running tasks are killed and given back now."""


class Worker:
    """One worker node.

    ``concurrency``: executor processes (default: CPUs). ``queues``/``exclude``: names, default all configured.
    ``hostname``: node name. ``grace``: seconds for which a warm shutdown waits for running tasks; None: for ever.
    """

    def __init__(
        self,
        app: Umbel,
        *,
        concurrency: int | None = None,
        queues: Sequence[str] | None = None,
        exclude: Sequence[str] | None = None,
        hostname: str,
        grace: float | None = None,
    ) -> None:
        conf = app.conf
        self.app = app
        self.concurrency = concurrency or conf.worker_concurrency or os.cpu_count() or 1
        self.queues = app.consume_queues(queues, exclude)
        self.hostname = hostname
        self.grace = grace if grace is not None else conf.worker_shutdown_grace
        self._soft_timeout = conf.worker_soft_shutdown_timeout
        self.exit_code = 0
        self.board = Board(self.concurrency)
        self.flow = Flow(app, self.board, self._executors, self._notify, self._on_retired, self._on_link_broken)
        self.link: Link | None = None
        self.started_at = time.monotonic()
        self.stalled = False
        """Work waits, but nothing was claimed for ``worker_stall_timeout`` and not since either."""
        self._pool: Pool | None = None
        self._shutdown: Shutdown | None = None
        self._changed = asyncio.Event()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._restarting: asyncio.Task[None] | None = None
        self._restarted_at = float("-inf")
        self._restart_pause = 0.0

    def run(self) -> int:
        """Work until told to stop; returns the exit code. The process must have no other threads yet."""
        self.app.finalize()
        app, board, hostname = self.app, self.board, self.hostname
        drivers = f"{type(app.broker).__name__}, {type(app.backend).__name__}"
        logger.debug("drivers were loaded once, before executors are forked: %s", drivers)
        dump_on_signal()
        nursery = Nursery(lambda slot, fd: run_executor(app, fd, board, slot, hostname))
        gc.freeze()
        gc.set_threshold(_GARBAGE_THRESHOLD)
        try:
            asyncio.run(self._main(nursery))
        finally:
            nursery.close()
            self.flow.close()
            self.app.close()
            self.board.close()
        return self.exit_code

    # -- life --

    async def _main(self, nursery: Nursery) -> None:
        self._loop = loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            cold = number == signal.SIGTERM and os.environ.get("REMAP_SIGTERM") == "SIGQUIT"
            loop.add_signal_handler(number, self._on_signal, Shutdown.COLD if cold else Shutdown.WARM)
        loop.add_signal_handler(signal.SIGQUIT, self._on_signal, Shutdown.COLD)
        self._pool = Pool(nursery, self.concurrency, self)
        StackDumper(self._pool, self.board)
        try:
            async with HealthServer(self):
                self._pool.start()
                await self._connect()
                async with asyncio.TaskGroup() as group:
                    upkeep = group.create_task(maintain(self))
                    await self._until(lambda: self._shutdown is not None)
                    upkeep.cancel()
                await self._stop(self._pool)
        finally:
            self._pool.close()

    async def _connect(self) -> None:
        """Open the link, trying for as long as the settings allow. Raises OperationalError after that."""
        conf = self.app.conf
        attempts, delay = 0, 0.2
        while self._shutdown is None:
            link = Link(
                self.app,
                self.queues,
                name=self.hostname,
                lease=conf.worker_lease,
                renewal=conf.worker_lease_renewal,
                board=self.board,
                owner=self.flow,
            )
            try:
                await asyncio.to_thread(link.open)
            except OperationalError as error:
                attempts += 1
                limit = conf.broker_connection_max_retries
                if not conf.broker_connection_retry_on_startup or (limit and attempts > limit):
                    raise
                logger.error("the broker cannot be reached, trying again in %.1f s: %s", delay, error)
                await self._until(lambda: self._shutdown is not None, delay)
                delay = min(delay * 2, 10.0)
                continue
            self.link = link
            self.flow.attach(link)
            link.start()
            logger.info("ready", extra={"data": {"node": self.hostname, "queues": [q.name for q in self.queues]}})
            return

    async def _until(self, condition: Callable[[], bool], timeout: float | None = None) -> bool:
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

    def _notify(self) -> None:
        """Something has changed; any thread."""
        if self._loop is not None:
            self._loop.call_soon_threadsafe(self._changed.set)

    def _on_signal(self, request: Shutdown) -> None:
        if self._shutdown is not None:
            request = Shutdown.COLD
        if request is Shutdown.COLD and self._soft_timeout and self._shutdown in (None, Shutdown.WARM):
            request = Shutdown.SOFT
        self.shut_down(request)

    def shut_down(self, how: Shutdown, exit_code: int = 0) -> None:
        """Begin to stop; a second, colder request overtakes the first. Loop thread."""
        if self._shutdown is None or how > self._shutdown:
            logger.info("%s shutdown", how.name.lower())
            self._shutdown = how
            self.exit_code = self.exit_code or exit_code
        self._changed.set()

    async def _stop(self, pool: Pool) -> None:
        if self.link is not None:
            self.link.stop_claiming()
        self.flow.stop()
        await self._until(lambda: self._shutdown is not Shutdown.WARM or not self.flow.busy(), self.grace)
        if self._shutdown is Shutdown.SOFT:
            idle_counts = not self.app.conf.worker_enable_soft_shutdown_on_idle
            await self._until(
                lambda: self._shutdown is Shutdown.COLD or (idle_counts and not self.flow.busy()), self._soft_timeout
            )
        if self.flow.busy():
            self.flow.give_back_running()
            pool.kill()
        pool.stop()
        if not await pool.wait_stopped(_KILL_AFTER):
            pool.kill()
            await pool.wait_stopped(_KILL_AFTER)
        if self.link is not None:
            await asyncio.to_thread(self.link.close)

    # -- the link --

    def _on_link_broken(self, error: BaseException) -> None:
        assert self._loop is not None
        self._loop.call_soon_threadsafe(self._begin_restart, str(error))

    def _begin_restart(self, reason: str) -> None:
        if self._restarting is None and self._shutdown is None:
            self._restarting = asyncio.get_running_loop().create_task(self.restart_link(reason))

    async def restart_link(self, reason: str) -> None:
        """Throw the link away with all it holds, and make a new one; with back-off when this happens again soon."""
        now = time.monotonic()
        soon = now - self._restarted_at < _RESTART_SOON
        self._restarted_at = now
        self._restart_pause = min(2 * self._restart_pause or 0.1, _LONGEST_RESTART_PAUSE) if soon else 0.0
        logger.error("a new link to the broker is made: %s", reason)
        old, self.link = self.link, None
        self.flow.attach(None)
        if old is not None:
            await asyncio.to_thread(old.close, 2.0)
        self.board.begin_lease()
        self.flow.on_lease_lost()
        await self._until(lambda: self._shutdown is not None, self._restart_pause)
        try:
            await self._connect()
        except UmbelError:
            logger.exception("no new link could be made")
            self.shut_down(Shutdown.COLD, _EXIT_FAILURE)
        finally:
            self._restarting = None

    # -- what health is made of --

    @property
    def stopping(self) -> bool:
        return self._shutdown is not None

    def executor_count(self) -> int:
        """Executors that take tasks."""
        return sum(not executor.stopping for executor in self._executors())

    # -- the pool --

    def _executors(self) -> list[ExecutorHandle]:
        return list(self._pool.executors.values()) if self._pool is not None else []

    def _on_retired(self, executor: ExecutorHandle) -> None:
        if self._loop is not None and self._pool is not None:
            self._loop.call_soon_threadsafe(self._pool.replace, executor)

    def on_executor_started(self, executor: ExecutorHandle) -> None:
        self.flow.on_executor_started(executor)

    def on_executor_exit(self, executor: ExecutorHandle, status: int) -> None:
        self.flow.on_executor_exit(executor, status)

    def on_nursery_lost(self) -> None:
        logger.critical("the nursery process died; everything is given back and the worker exits")
        self.shut_down(Shutdown.COLD, _EXIT_FAILURE)
