"""The supervisor: owns the link to the broker and the pool of executors, and passes work between them.

It never runs user code. ``Worker.run`` forks the nursery while the process is still single-threaded, then everything
happens in one event loop: deliveries come in from the link, are judged, dispatched, reported and settled.
"""

from __future__ import annotations

import asyncio
import enum
import logging
import os
import signal
import time
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from umbel.brokers.base import Action, Delivery, Settlement
from umbel.errors import OperationalError, UmbelError
from umbel.executors import packets
from umbel.executors.board import Board
from umbel.executors.executor import run_executor
from umbel.executors.nursery import Nursery
from umbel.worker.dispatch import Dispatcher
from umbel.worker.intake import Intake
from umbel.worker.job import Job
from umbel.worker.journal import Journal
from umbel.worker.link import Ending, Link
from umbel.worker.maintenance import maintain
from umbel.worker.orphans import Orphans
from umbel.worker.pool import ExecutorHandle, Pool, describe_exit

if TYPE_CHECKING:
    from umbel.app import Umbel
    from umbel.executors.packets import Report

logger = logging.getLogger("umbel.worker")

_PACKETS_AT_ONCE = 256
_MOST_UNSETTLED = 20_000
_KILL_AFTER = 3.0
_EXIT_FAILURE = 70


class Shutdown(enum.IntEnum):
    """How the worker ends; a later request may only be colder."""

    WARM = 1
    """Running tasks finish, for at most the grace time; everything else is given back now."""
    COLD = 2
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
        self.crash_limit = conf.worker_crash_limit
        self.board = Board(self.concurrency)
        self.intake = Intake(app, conf.worker_delivery_limit)
        self.journal = Journal(app)
        self.dispatcher = Dispatcher(self._executors, conf.worker_prefetch_seconds, conf.worker_prefetch_multiplier)
        self.exit_code = 0
        self._link: Link | None = None
        self._pool: Pool | None = None
        self._ending = Ending()
        self.orphans = Orphans()
        self._shutdown: Shutdown | None = None
        self._changed = asyncio.Event()
        self._restarting: asyncio.Task[None] | None = None
        self.last_progress = time.monotonic()

    def run(self) -> int:
        """Work until told to stop; returns the exit code. The process must have no other threads yet."""
        self.app.finalize()
        app, board, hostname = self.app, self.board, self.hostname
        drivers = f"{type(app.broker).__name__}, {type(app.backend).__name__}"
        logger.debug("drivers were loaded once, before executors are forked: %s", drivers)
        nursery = Nursery(lambda slot, fd: run_executor(app, fd, board, slot, hostname))
        try:
            asyncio.run(self._main(nursery))
        finally:
            nursery.close()
            self.app.close()
            self.board.close()
        return self.exit_code

    # -- life --

    async def _main(self, nursery: Nursery) -> None:
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._on_signal, Shutdown.WARM)
        loop.add_signal_handler(signal.SIGQUIT, self._on_signal, Shutdown.COLD)
        self._pool = Pool(nursery, self.concurrency, self)
        self._pool.start()
        try:
            await self._connect()
            async with asyncio.TaskGroup() as group:
                upkeep = group.create_task(maintain(self))
                await self._until(lambda: self._shutdown is not None)
                upkeep.cancel()
            await self._stop()
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
                owner=self,
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
            link.start(asyncio.get_running_loop())
            self._link = link
            logger.info("ready", extra={"data": {"node": self.hostname, "queues": [q.name for q in self.queues]}})
            self._advance()
            return

    async def _until(self, condition: Callable[[], bool], timeout: float | None = None) -> bool:
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

    def _on_signal(self, request: Shutdown) -> None:
        if self._shutdown is not None:
            request = Shutdown.COLD
        self.shut_down(request)

    def shut_down(self, how: Shutdown, exit_code: int = 0) -> None:
        """Begin to stop; a second, colder request overtakes the first. Loop thread."""
        if self._shutdown is None or how > self._shutdown:
            logger.info("%s shutdown", how.name.lower())
            self._shutdown = how
            self.exit_code = self.exit_code or exit_code
        self._changed.set()

    async def _stop(self) -> None:
        pool, link = self._pool, self._link
        assert pool is not None
        if link is not None:
            link.stop_claiming()
        self._give_back_unread()
        await self._until(lambda: self._shutdown is Shutdown.COLD or not self.dispatcher.busy(), self.grace)
        if self.dispatcher.busy():
            self._give_back_running()
            pool.kill()
        pool.stop()
        if not await pool.wait_stopped(_KILL_AFTER):
            pool.kill()
            await pool.wait_stopped(_KILL_AFTER)
        if link is not None:
            await asyncio.to_thread(link.close)

    def _give_back_unread(self) -> None:
        """What no executor has begun goes back to the queue, in order."""
        jobs = self.dispatcher.drop_backlog()
        for executor in self._executors():
            jobs = self.dispatcher.take_back(executor, 1 << 30) + jobs
        jobs.sort(key=lambda job: job.number)
        for job in jobs:
            self._give_back(job)
        self._flush()

    def _give_back_running(self) -> None:
        for executor in self._executors():
            for packet in executor.channel.receive(1 << 30):
                self._on_packet(executor, packet)
            for job in executor.jobs.values():
                self._give_back(job)
            executor.jobs.clear()
        self._flush()

    def _give_back(self, job: Job) -> None:
        self.dispatcher.forget(job)
        if job.acknowledged:
            self._ending.publish.append(job.message)
        elif not job.lost:
            self._ending.settlements.append(Settlement(job.delivery, Action.REQUEUE))

    # -- the link's news --

    def on_deliveries(self, deliveries: list[Delivery]) -> None:
        if deliveries:
            self.last_progress = time.monotonic()
        for delivery in deliveries:
            self._admit(delivery)
        self._advance()

    def _admit(self, delivery: Delivery) -> None:
        if self._shutdown is not None:
            self._ending.settlements.append(Settlement(delivery, Action.REQUEUE))
            return
        if self.orphans and (adopted := self.orphans.adopt(delivery)):
            if isinstance(adopted, Settlement):
                self._ending.settlements.append(adopted)
            return
        settlement = self.intake.judge(delivery)
        if settlement is not None:
            self.journal.not_run(settlement)
            self._ending.settlements.append(settlement)
            return
        job = self.dispatcher.job(delivery)
        if not self.app.tasks[delivery.message.task].acks_late:
            self.dispatcher.waiting.add(job)
            self._ending.acknowledge.append(job)
        else:
            self.dispatcher.put(job)

    def on_acknowledged(self, jobs: list[Job]) -> None:
        for job in jobs:
            self.dispatcher.waiting.discard(job)
            job.acknowledged = True
            self.dispatcher.put(job)
        self._advance()

    def on_stale(self, stale: list[Settlement]) -> None:
        for settlement in stale:
            message = settlement.delivery.message
            logger.warning("the hold on %s[%s] was lost before it could be settled", message.task, message.id)
            self.orphans.remember(settlement)

    def on_lease_lost(self) -> None:
        """Whatever is held is not ours any more: forget what has not begun, mark what runs."""
        for job in self.dispatcher.drop_backlog():
            self._forget_lost(job)
        for job in self.dispatcher.waiting:
            self.dispatcher.forget(job)
        self.dispatcher.waiting.clear()
        for executor in self._executors():
            for job in self.dispatcher.take_back(executor, 1 << 30):
                self._forget_lost(job)
            for job in executor.jobs.values():
                if not job.acknowledged:
                    self.orphans.lose(job)
        self._advance()

    def _forget_lost(self, job: Job) -> None:
        if job.acknowledged:
            self.dispatcher.put(job)
        else:
            self.dispatcher.forget(job)

    def on_link_broken(self, error: BaseException) -> None:
        if self._restarting is None and self._shutdown is None:
            self._restarting = asyncio.get_running_loop().create_task(self.restart_link(str(error)))

    async def restart_link(self, reason: str) -> None:
        """Throw the link away with all it holds, and make a new one."""
        logger.error("a new link to the broker is made: %s", reason)
        old, self._link = self._link, None
        self.board.begin_lease()
        if old is not None:
            await asyncio.to_thread(old.close, 2.0)
        self.on_lease_lost()
        try:
            await self._connect()
        except UmbelError:
            logger.exception("no new link could be made")
            self.shut_down(Shutdown.COLD, _EXIT_FAILURE)
        finally:
            self._restarting = None

    # -- the pool's news --

    def on_packets(self, executor: ExecutorHandle) -> None:
        for packet in executor.channel.receive(_PACKETS_AT_ONCE):
            self._on_packet(executor, packet)
        self._advance()

    def _on_packet(self, executor: ExecutorHandle, packet: bytes) -> None:
        kind, number = packets.kind_of(packet), packets.number_of(packet)
        if kind == packets.OUTCOME:
            report = packets.decode_report(packet)
            job = self.dispatcher.finish(executor, number, report.runtime)
            if job is not None:
                self._conclude(job, report)
        elif kind == packets.REPORT:
            self._ending.results.append(packets.decode_state(packet))
        elif kind == packets.REFUSED:
            job = self.dispatcher.finish(executor, number, None)
            if job is not None:
                self.orphans.end(job)
                if not job.lost:
                    self._ending.settlements.append(Settlement(job.delivery, Action.REQUEUE))

    def _conclude(self, job: Job, report: Report) -> None:
        self.last_progress = time.monotonic()
        self.journal.ended(job.message, report)
        if job.acknowledged:
            self._ending.publish += report.publish
            if report.result is not None:
                self._ending.results.append(report.result)
            return
        self.orphans.end(job)
        self._ending.settlements.append(
            Settlement(
                job.delivery,
                _ACTIONS[report.action],
                report.delay,
                False,
                report.reason,
                report.result,
                report.publish,
            )
        )

    def on_executor_started(self, executor: ExecutorHandle) -> None:
        self._advance()

    def on_executor_exit(self, executor: ExecutorHandle, status: int) -> None:
        """Recover what it had: outcomes that it sent, packets that it did not read; the rest died with it."""
        for packet in executor.channel.receive(1 << 30):
            self._on_packet(executor, packet)
        unread = self.dispatcher.take_back(executor, 1 << 30)
        lost = list(executor.jobs.values())
        executor.jobs.clear()
        if not executor.stopping:
            logger.error("executor %d %s", executor.pid, describe_exit(status))
        self.dispatcher.put_back(lost[1:] + unread)
        for job in lost[:1]:
            self._crashed(job, describe_exit(status))
        if self._shutdown is not None:
            self._give_back_unread()
        self._advance()

    def _crashed(self, job: Job, how: str) -> None:
        self.dispatcher.forget(job)
        self.orphans.end(job)
        message, crashes = job.message, job.delivery.deliveries + 1
        task = self.app.tasks[message.task]
        reason = f"the executor that ran it {how}"
        if job.acknowledged or task.reject_on_worker_lost is False:
            self.journal.lost(message, reason, "not run again")
            result = self.intake.failure(job.delivery, reason)
            if not job.acknowledged:
                self._ending.settlements.append(Settlement(job.delivery, result=result))
            elif result is not None:
                self._ending.results.append(result)
        elif crashes >= self.crash_limit:
            reason = f"{reason}; {crashes} times now"
            self.journal.lost(message, reason, "dead-lettered")
            result = self.intake.failure(job.delivery, reason)
            self._ending.settlements.append(Settlement(job.delivery, Action.DEAD_LETTER, reason=reason, result=result))
        else:
            self.journal.lost(message, reason, f"delivered again ({crashes} of {self.crash_limit})")
            self._ending.settlements.append(Settlement(job.delivery, Action.REQUEUE, count=True))

    def on_nursery_lost(self) -> None:
        logger.critical("the nursery process died; everything is given back and the worker exits")
        self.shut_down(Shutdown.COLD, _EXIT_FAILURE)

    # -- passing on --

    def _advance(self) -> None:
        """After any news: send out what can be, settle what has ended, say how much more is wanted."""
        dispatcher, link = self.dispatcher, self._link
        dispatcher.pump()
        idle = dispatcher.idle()
        if idle:
            dispatcher.balance()
        if link is None:
            return
        if self._shutdown is None:
            wanted = dispatcher.wanted() if link.unsettled < _MOST_UNSETTLED else 0
            link.claims.offer(wanted, idle=idle > 0 and not dispatcher.backlog, window=dispatcher.held_window())
        else:
            self._changed.set()
        self._flush()

    def _flush(self) -> None:
        if self._ending and self._link is not None:
            ending, self._ending = self._ending, Ending()
            self._link.submit(ending)

    def _executors(self) -> list[ExecutorHandle]:
        return list(self._pool.executors.values()) if self._pool is not None else []

    @property
    def link(self) -> Link | None:
        return self._link


_ACTIONS = {action.value: action for action in Action}
