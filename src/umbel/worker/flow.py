"""The flow of work through the worker: deliveries in, packets out, reports in, settlements out.

The threads of the link bring deliveries and fetch what is to be settled, the event loop tells of executors that start
and die. All of it happens under one lock, for microseconds at a time; nothing here blocks, and nothing here talks to
the broker. What happens to the work is told in the modules of its parts: ``admission``, ``reports``, ``recovering``,
``condemning``; what all of them change is ``held_work``.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from typing import TYPE_CHECKING

from umbel.brokers.base import Action, Delivery, Settled, Settlement
from umbel.errors import UmbelError
from umbel.executors import packets
from umbel.signals import after_task_publish, heartbeat_sent, task_sent
from umbel.worker.admission import Admission
from umbel.worker.condemning import Condemning
from umbel.worker.held_work import ALL, HeldWork
from umbel.worker.link import Ending
from umbel.worker.pool import UNLIMITED, ExecutorHandle
from umbel.worker.recovering import Recovery
from umbel.worker.reports import Reports
from umbel.worker.switchboard import Switchboard

if TYPE_CHECKING:
    from umbel.app import Umbel
    from umbel.executors.board import Board
    from umbel.message import Message
    from umbel.worker.ending_tasks import Sentence
    from umbel.worker.job import Job
    from umbel.worker.journal import Journal
    from umbel.worker.link import Link


class Flow:
    """What others do with the work that the worker holds.

    ``on_change`` is called, in any thread, after every change once the flow is stopping; ``on_retired`` when an
    executor reads no more, or soon will not, and needs a successor; ``on_link_broken`` with the error when a thread of
    the link ended unexpectedly. ``sender``: of the signals about messages. Receivers of signals are called without the
    lock; those of ``task_received`` before any executor has the task. ``journal``: the log, where it is another one.
    """

    def __init__(
        self,
        app: Umbel,
        board: Board,
        executors: Callable[[], list[ExecutorHandle]],
        on_change: Callable[[], None],
        on_retired: Callable[[], None],
        on_link_broken: Callable[[BaseException], None],
        sender: object = None,
        journal: Journal | None = None,
    ) -> None:
        self.board = board
        self.on_change = on_change
        self._tell_broken = on_link_broken
        self._executors = executors
        self._allowance = app.conf.worker_max_tasks_per_child or UNLIMITED
        self._work = work = HeldWork(app, executors, on_retired, sender, journal)
        self._lock = work.lock
        self.intake, self.gates = work.intake, work.gates
        self.dispatcher, self.telling = work.dispatcher, work.telling
        self._admission = Admission(app, work)
        self._reports = Reports(work, on_retired, self._keep)
        self._condemning = Condemning(work)
        self._recovery = Recovery(work, self._reports, self._condemning, board)
        self._switchboard = Switchboard()
        self._leaving: list[Message] = []
        """Of the ending that is being settled, what gates are to be told of even if the link breaks meanwhile."""
        self._link: Link | None = None

    # -- the link --

    def attach(self, link: Link | None) -> None:
        """Claim and settle through ``link`` from now on; None: what the last one had in hand will not be answered."""
        with self._lock:
            self._link = link
            if link is not None and self.dispatcher.fixed is not None:
                link.claims.strict = True
            ending = self._work.ending
            if link is None:
                ending.left += self._leaving
                self._leaving = []
                self._admission.forget_waiting()
            ending.lease_number = self.board.lease_number
            self._advance()

    def wake(self) -> None:
        self._switchboard.ring()

    def on_link_broken(self, error: BaseException) -> None:
        self._tell_broken(error)

    def collect(self, timeout: float) -> Ending:
        """Settling thread: read what executors report; what there is to settle, in order. Waits for it."""
        work = self._work
        ready = self._switchboard.wait(0 if work.ending else timeout)
        with self._lock:
            for executor in ready:
                if executor.exited:
                    continue
                executor.worked = True
                self._reports.read(executor)
            if ready:
                self._advance()
            ending, work.ending = work.ending, Ending(lease_number=self.board.lease_number)
            self._leaving = ending.left
        if self.telling.due:
            self.telling.tell()
        return ending

    def on_deliveries(self, deliveries: list[Delivery], room: int) -> None:
        verdicts = self._admission.verdicts(deliveries)
        with self._lock:
            if self._link is not None:
                self._link.claims.give_back(room)
            self._admission.admit(deliveries, verdicts)
            self._advance()
            if self._work.ending:
                self.wake()
        if self.telling.due:
            self.telling.tell()

    def refused(self, delivery: Delivery, error: UmbelError) -> Settlement:
        """The end of a task whose outcome the broker refuses for good."""
        return self.intake.refused(delivery, error)

    def on_settled(self, ending: Ending, settled: Settled, room: int) -> None:
        if after_task_publish.receivers or task_sent.receivers:
            self.telling.published(ending, settled.stale)
        if self.gates:
            self._leaving = []
            self.gates.settled(ending, settled.stale)
        verdicts = self._admission.verdicts(settled.deliveries)
        work = self._work
        with self._lock:
            if self._link is not None:
                self._link.claims.give_back(room)
            for settlement in settled.stale:
                if settlement.action is not Action.REQUEUE:
                    work.journal.lost_hold(settlement.delivery.message)
                work.orphans.remember(settlement)
            if ending.acknowledge:
                self._admission.acknowledged(ending.acknowledge, settled.stale)
            if settled.deliveries or settled.stale or ending.acknowledge or room or work.stopping:
                self._admission.admit(settled.deliveries, verdicts)
                self._advance()
        if self.telling.due:
            self.telling.tell()

    def on_renewed(self) -> None:
        if heartbeat_sent.receivers:
            self.telling.heartbeat()

    def on_lease_lost(self) -> None:
        """What was held is not ours any more."""
        with self._lock:
            self._work.lose_holds()
            self._advance()
            self.wake()

    # -- executors --

    def on_executor_started(self, executor: ExecutorHandle) -> None:
        with self._lock:
            executor.allowance = self._allowance
            self._switchboard.add(executor)
            self._advance()

    def retire(self, executor: ExecutorHandle, *, ending: bool = False) -> None:
        """Have it end what it runs and exit; what it has not read goes to others. ``ending``: it is killed now, for one
        of its tasks."""
        with self._lock:
            executor.stopping = True
            executor.ending = executor.ending or ending
            self.dispatcher.put_back(self.dispatcher.take_back(executor, ALL))
            executor.channel.send(packets.encode_stop())
            if self._work.stopping:
                self._work.give_back_unread()
            self._advance()
            self.wake()

    def open_lanes(self, executor: ExecutorHandle, lanes: int) -> None:
        """Give it so many tasks at a time from now on."""
        with self._lock:
            if lanes < executor.open:
                self.dispatcher.put_back(self.dispatcher.take_back(executor, ALL))
            executor.open = lanes
            self._advance()

    def on_executor_exit(self, executor: ExecutorHandle, status: int) -> None:
        """Recover what it had."""
        with self._lock:
            self._switchboard.remove(executor)
            executor.exited = True
            self._recovery.recover(executor, status)
            self._advance()
            self.wake()
        if self.telling.due:
            self.telling.tell()

    # -- ending tasks --

    def expect_hard_limits(self, tell: Callable[[float], object]) -> None:
        """Call ``tell`` with the lock held and a limit in seconds, when a task that has one is admitted."""
        self._admission.on_hard_limit = tell

    def refuse(self, task_ids: Collection[str]) -> None:
        """End as revoked what is held of these tasks and was not begun. Any thread."""
        with self._lock:
            self._admission.refuse(task_ids)
            self._advance()
            if self._work.ending:
                self.wake()
        if self.telling.due:
            self.telling.tell()

    def message_of(self, task_id: str) -> Message | None:
        """The message of a task that is held here and not condemned yet."""
        with self._lock:
            return self._condemning.message_of(task_id)

    def condemn(self, task_id: str, sentence: Sentence) -> tuple[ExecutorHandle | None, int] | None:
        """Pass a sentence on a task that is held here: its number, and the executor that is to be interrupted; none
        where it had not begun, and never will. None when nothing is held that was not condemned before."""
        with self._lock:
            self._reports.read_all()
            found = self._condemning.condemn(task_id, sentence)
            self._advance()
            self.wake()
            return found

    def condemn_running(self, executor: ExecutorHandle, job: Job, sentence: Sentence) -> bool:
        """The same for a job that ``executor`` is known to run; False when it has ended in the meantime."""
        with self._lock:
            return self._condemning.condemn_running(executor, job, sentence)

    def sentence_of(self, number: int) -> Sentence | None:
        """The sentence on a job that has not ended yet."""
        return self._work.sentences.get(number)

    # -- stopping --

    def stop(self) -> None:
        """Admit nothing any more; what no executor has begun goes back to its queue, in order."""
        with self._lock:
            self._work.stopping = True
            self._work.give_back_unread()
            self._advance()
            self.wake()

    def read_reports(self) -> None:
        """What ``collect`` reads, for when its thread cannot go on because the broker is gone. Loop thread."""
        with self._lock:
            self._reports.read_all()
            self._advance()

    def abandon_running(self) -> None:
        """Put back what executors run; they are to be killed next. Loop thread."""
        with self._lock:
            self._recovery.abandon_running()
            self.wake()
        if self.telling.due:
            self.telling.tell()

    def close(self) -> None:
        self.telling.close()
        self._switchboard.close()

    # -- what is held --

    @property
    def last_progress(self) -> float:
        """When anything was claimed or ended last, by the monotonic clock."""
        return self._work.last_progress

    def holding(self, task_ids: Collection[str]) -> set[str]:
        """Which of these tasks are held here, begun or not. Any thread."""
        with self._lock:
            return {job.message.id for job in self.dispatcher.jobs() if job.message.id in task_ids}

    def messages(self) -> list[Message]:
        """What is held here, begun or not. Any thread."""
        with self._lock:
            return [job.message for job in self.dispatcher.jobs()]

    def busy(self) -> bool:
        """Whether anything is held that has not ended."""
        with self._lock:
            return self.dispatcher.busy()

    def held(self) -> int:
        """How many tasks are held: in the backlog, sent to executors, running."""
        with self._lock:
            return self.dispatcher.held()

    def load(self) -> tuple[int, int]:
        """Lanes that have a task, and how many tasks are held for them, theirs included."""
        with self._lock:
            return self.dispatcher.load()

    # -- passing on --

    def _keep(self, settlement: Settlement, lanes: int) -> None:
        """A task has ended that leaves so many lanes free, and what it sends may be run by them."""
        link = self._link
        if link is not None and not link.claims.strict:
            self._admission.keep(settlement, lanes, link.keep)

    def _advance(self) -> None:
        """After any news: send out what can be, and say how much more is wanted."""
        dispatcher, link = self.dispatcher, self._link
        dispatcher.pump()
        room = dispatcher.room()
        if room.uneven and dispatcher.balance():
            room = dispatcher.room()
        if self._work.stopping:
            self.on_change()
        elif link is not None:
            idle = 0 if dispatcher.backlog else room.idle
            link.claims.offer(room.wanted, idle=idle, window=room.window)
