"""A worker without threads: it runs the next task when it is told to, here, and keeps its own time.

Everything but the scheduling is the real thing: deliveries are claimed from the ``memory://`` broker and judged, pass
the gates of limits and revocations, travel to an executor in this thread as packets, and their outcomes are settled, by
the same code as in every worker. So retries, canvases, results, signals, acknowledgements and limits are what they are
in production; only nothing happens by itself.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any, Self, cast

from msgspec import Struct

from umbel.brokers.base import Action, Consumer, Settlement
from umbel.brokers.memory import MemoryBroker
from umbel.clock import now
from umbel.errors import ConfigurationError, UmbelError
from umbel.executors import packets
from umbel.executors.board import Board
from umbel.executors.channel import open_channel, open_executor_end
from umbel.executors.executor import Executor
from umbel.limits.rates import RateLimits
from umbel.loops import close_loop
from umbel.testing.virtual_clock import VirtualClock
from umbel.worker.flow import Flow
from umbel.worker.journal import Journal
from umbel.worker.limiting import SharedLimits
from umbel.worker.link import Link
from umbel.worker.pool import UNLIMITED, ExecutorHandle
from umbel.worker.revocations import Revoked

if TYPE_CHECKING:
    from umbel.app import Umbel
    from umbel.backends.base import Result
    from umbel.executors.packets import Report
    from umbel.message import Message
    from umbel.worker.supervisor import Worker

_FOR_EVER = 1e9
_SAME_MOMENT = 1e-6
_NOT_RUN = {Action.ACK: "REVOKED", Action.DEAD_LETTER: "REJECTED", Action.PARK: "PARKED"}


class Run(Struct, frozen=True):
    """What became of one delivery.

    ``state``: that of the task (SUCCESS, FAILURE, RETRY, IGNORED, REJECTED), REVOKED for one that was revoked or had
    expired, PARKED for one whose task is not known. ``at``: Unix time by the worker's clock. ``error``: the exception
    as one line, or the reason; ``traceback`` as text.
    """

    id: str
    task: str
    queue: str
    state: str
    at: float
    error: str = ""
    traceback: str | None = None


class InProcessWorker:
    """Runs tasks of ``app``, whose broker must be ``memory://``, one after the other in the thread that asks for it.

    ``queues``: names, default all configured. ``clock``: the virtual clock that holds from ``with`` on, by default a
    new one that starts now. ``runs``: what became of all deliveries so far. Tasks are limited in time as a call in this
    thread can be: soft limits hold, hard ones do not. Not to be used inside a task.

        with InProcessWorker(app) as worker:
            send_reminder.apply_async(("ada",), countdown=3600)
            worker.advance(3600)
            assert [run.state for run in worker.runs] == ["SUCCESS"]

    Raises ConfigurationError for another broker.
    """

    def __init__(
        self,
        app: Umbel,
        queues: Sequence[str] | None = None,
        *,
        clock: VirtualClock | None = None,
        hostname: str = "in-process@test",
    ) -> None:
        self.app = app
        self.hostname = hostname
        self.clock = clock or VirtualClock()
        self.concurrency = 1
        self.runs: list[Run] = []
        self.queues = app.consume_queues(queues)
        if not isinstance(app.broker, MemoryBroker):
            raise ConfigurationError(
                f"the in-process worker needs a broker in this process: broker_url='memory://', not {app.broker.url!r}"
            )
        self._broker = app.broker
        self._names = [queue.name for queue in self.queues]
        self._consumer: Consumer | None = None
        self._known = 0

    # -- life --

    def __enter__(self) -> Self:
        self.app.finalize()
        with ExitStack() as opened:
            opened.enter_context(self.clock)
            opened.callback(close_loop)
            self._open_executor(opened)
            self._open_gates()
            self._open_link(opened)
            self._opened = opened.pop_all()
        return self

    def __exit__(self, *exc: object) -> None:
        self._consumer = None
        self._opened.close()

    def _open_executor(self, opened: ExitStack) -> None:
        self._board = board = Board(1)
        opened.callback(board.close)
        board.lease_end = time.monotonic() + _FOR_EVER
        self._channel = channel = open_channel()
        opened.callback(channel.close)
        end = open_executor_end(os.dup(channel.executor_fd()))
        opened.callback(end.close)
        self._handle = ExecutorHandle(0, channel)
        self._executor = _Executor(self.app, end, board, 0, self.hostname)
        journal = _Recorder(self.app, self.runs)
        self.flow = flow = Flow(self.app, board, lambda: [self._handle], _nothing, _nothing, _raise, self, journal)
        opened.callback(flow.close)
        flow.on_executor_started(self._handle)
        self._handle.allowance = UNLIMITED

    def _open_gates(self) -> None:
        app, flow, worker = self.app, self.flow, cast("Worker", self)
        self._revoked = Revoked(worker)
        shared = SharedLimits(worker)
        if shared.enabled:
            shared.create(worker)
        self._rates = RateLimits(app, flow.gates, flow.intake.refused)

    def _open_link(self, opened: ExitStack) -> None:
        """Its threads are not started: what they would do is done here."""
        name, lease = self.hostname, _FOR_EVER
        self._link = Link(
            self.app, self.queues, name=name, lease=lease, renewal=lease, board=self._board, owner=self.flow
        )
        for queue in self.queues:
            self._broker.declare(queue)
        self._consumer = consumer = self._broker.consumer(self.queues, name=name, lease=lease)
        opened.callback(consumer.close)

    # -- running --

    def run_next(self) -> Run | None:
        """Run the next task that is due, by priority and age; None when none is.

        What was revoked, expired or is not known is not run but told as well. What a limit puts off is left for later.
        """
        consumer = self._consumer
        if consumer is None:
            raise UmbelError("the in-process worker runs tasks inside its `with` block only")
        self._look_around()
        before = len(self.runs)
        while len(self.runs) == before:
            deliveries = consumer.receive(1, 0.0)
            if not deliveries:
                return None
            self.flow.on_deliveries(deliveries, 0)
            self._work(consumer)
        return self.runs[-1]

    def drain(self, *, limit: int = 10_000) -> list[Run]:
        """Run all that is due, in order, also what comes up meanwhile; what became of it.

        Raises UmbelError after ``limit`` tasks: they send each other without end.
        """
        runs: list[Run] = []
        while (run := self.run_next()) is not None:
            runs.append(run)
            if len(runs) >= limit:
                raise UmbelError(f"{limit} tasks were run and there are more; the last was {run.task}")
        return runs

    def advance(self, seconds: float) -> list[Run]:
        """Let so many seconds pass, and run in order of time all that is due until then, each at its moment."""
        target = self.clock.time() + seconds
        runs = self.drain()
        while (due := self._next_due()) is not None and due <= target + _SAME_MOMENT:
            self.clock.move_to(due)
            runs += self.drain()
        self.clock.move_to(target)
        return runs

    def run_until_empty(self, *, limit: int = 10_000) -> list[Run]:
        """Run all there is, letting time pass to each delayed task. Raises UmbelError after ``limit`` tasks."""
        runs = self.drain(limit=limit)
        while (due := self._next_due()) is not None:
            self.clock.move_to(due)
            runs += self.drain(limit=limit)
            if len(runs) >= limit:
                raise UmbelError(f"{limit} tasks were run and there are more; the last was {runs[-1].task}")
        return runs

    def assert_no_failures(self) -> None:
        """Raise AssertionError with the tracebacks of the tasks that have failed so far."""
        failed = [run for run in self.runs if run.state in ("FAILURE", "REJECTED")]
        if failed:
            told = "\n".join(f"{run.task}[{run.id}] {run.error}\n{run.traceback or ''}".rstrip() for run in failed)
            raise AssertionError(f"{len(failed)} of {len(self.runs)} runs failed:\n{told}")

    def call_soon(self, function: Callable[..., None], *args: Any) -> None:
        """As of a worker, for revocations: nothing runs while they are read, so there is nothing to end."""

    # -- inside --

    def _look_around(self) -> None:
        """Take notice of new tasks and revocations, as workers do from time to time."""
        if len(self.app.tasks) != self._known:
            self._known = len(self.app.tasks)
            self._rates.read()
            for queue in self._names:
                known = [task for task in self._broker.parked(queue) if task in self.app.tasks]
                if known:
                    self._broker.unpark(queue, known)
        self._revoked.refresh()

    def _work(self, consumer: Consumer) -> None:
        while True:
            if self._handle.jobs:
                self._channel.send(packets.encode_stop())
                self._executor.run()
            ending = self.flow.collect(0.0)
            if ending:
                self._link.settle(consumer, ending)
            elif not self._handle.jobs:
                return

    def _next_due(self) -> float | None:
        store = self._broker.store
        with store.changed:
            return store.next_due(self._names)


class _Executor(Executor):
    """Stores states of a running task at once: nobody reads the channel meanwhile."""

    def _report(self, result: Result) -> None:
        self.app.backend.store([result])


class _Recorder(Journal):
    """Also keeps what it is told."""

    def __init__(self, app: Umbel, runs: list[Run]) -> None:
        super().__init__(app)
        self._runs = runs

    def ended(self, message: Message, report: Report) -> None:
        super().ended(message, report)
        self._note(message, report.state, report.error or report.reason, report.traceback)

    def not_run(self, settlement: Settlement) -> None:
        super().not_run(settlement)
        state = _NOT_RUN.get(settlement.action)
        if state is not None:
            reason = settlement.reason or ("expired" if state == "REVOKED" else "")
            self._note(settlement.delivery.message, state, reason, None)

    def _note(self, message: Message, state: str, error: str, traceback: str | None) -> None:
        self._runs.append(Run(message.id, message.task, message.queue, state, now(), error, traceback))


def _nothing() -> None:
    """Nobody waits for news: there is one thread."""


def _raise(error: BaseException) -> None:
    raise error
