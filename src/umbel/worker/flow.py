"""The flow of work through the worker: deliveries in, packets out, reports in, settlements out.

The threads of the link bring deliveries and fetch what is to be settled, the event loop tells of executors that start
and die. All of it happens under one lock, for microseconds at a time; nothing here blocks, and nothing here talks to
the broker.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Collection, Sequence
from typing import TYPE_CHECKING

import msgspec

from umbel.brokers.base import Action, Delivery, Settled, Settlement
from umbel.errors import UmbelError
from umbel.executors import packets
from umbel.signals import after_task_publish, heartbeat_sent, task_received, task_sent
from umbel.worker.dispatch import Dispatcher, fixed_window
from umbel.worker.ending_tasks import Sentence
from umbel.worker.gates import Gates
from umbel.worker.intake import Intake
from umbel.worker.job import Job
from umbel.worker.journal import Journal
from umbel.worker.link import Ending
from umbel.worker.orphans import Orphans
from umbel.worker.pool import UNLIMITED, ExecutorHandle, describe_exit
from umbel.worker.switchboard import Switchboard
from umbel.worker.telling import Telling
from umbel.worker.time_limits import TimeLimits

if TYPE_CHECKING:
    from umbel.app import Umbel
    from umbel.executors.board import Board
    from umbel.executors.packets import Report
    from umbel.message import Message
    from umbel.worker.link import Link

logger = logging.getLogger("umbel.worker")

_PACKETS_AT_ONCE = 256
_ALL = 1 << 30
Verdicts = dict[int, Settlement | None]
"""What is to be done with deliveries, by their ``id``; None: run it."""

_FINAL = (Action.ACK, Action.DEAD_LETTER)
_ACTIONS = {action.value: action for action in Action}


class Flow:
    """All work that the worker holds.

    ``on_change`` is called, in any thread, after every change once the flow is stopping; ``on_retired`` when an
    executor reads no more, or soon will not, and needs a successor; ``on_link_broken`` with the error when a thread of
    the link ended unexpectedly. ``sender``: of the signals about messages. Receivers of signals are called without the
    lock; those of ``task_received`` before any executor has the task.
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
    ) -> None:
        conf = app.conf
        self.app = app
        self.board = board
        self.on_change = on_change
        self._tell_retired = on_retired
        self._tell_broken = on_link_broken
        self.telling = Telling(app, sender)
        self.intake = Intake(app, conf.worker_delivery_limit, self.telling.due)
        self.gates = Gates()
        self.journal = Journal(app)
        self.orphans = Orphans()
        self.limits = TimeLimits(app)
        self.on_hard_limit: Callable[[float], object] | None = None
        """Called with the lock held and a limit in seconds, when a task that has one is admitted."""
        self.dispatcher = Dispatcher(
            executors, conf.worker_prefetch_seconds, fixed_window(conf), conf.worker_crash_limit - 1, on_retired
        )
        self.last_progress = time.monotonic()
        self._executors = executors
        self._crash_limit = conf.worker_crash_limit
        self._allowance = conf.worker_max_tasks_per_child or UNLIMITED
        self._lock = threading.RLock()
        self._switchboard = Switchboard()
        self._sentences: dict[int, Sentence] = {}
        self._ending = Ending()
        self._leaving: list[Message] = []
        """Of the ending that is being settled, what gates are to be told of even if the link breaks meanwhile."""
        self._link: Link | None = None
        self._stopping = False

    # -- the link --

    def attach(self, link: Link | None) -> None:
        """Claim and settle through ``link`` from now on; None: what the last one had in hand will not be answered."""
        with self._lock:
            self._link = link
            if link is None:
                self._ending.left += self._leaving
                self._leaving = []
                for job in self.dispatcher.waiting:
                    self.dispatcher.forget(job)
                    self._sentences.pop(job.number, None)
                    self._left(job.message)
                self.dispatcher.waiting.clear()
            self._ending.lease_number = self.board.lease_number
            self._advance()

    def wake(self) -> None:
        self._switchboard.ring()

    def on_link_broken(self, error: BaseException) -> None:
        self._tell_broken(error)

    def collect(self, timeout: float) -> Ending:
        """Settling thread: read what executors report; what there is to settle, in order. Waits for it."""
        ready = self._switchboard.wait(0 if self._ending else timeout)
        with self._lock:
            for executor in ready:
                if executor.exited:
                    continue
                executor.worked = True
                for packet in executor.channel.receive(_PACKETS_AT_ONCE):
                    self._on_packet(executor, packet)
            if ready:
                self._advance()
            ending, self._ending = self._ending, Ending(lease_number=self.board.lease_number)
            self._leaving = ending.left
        if self.telling.due:
            self.telling.tell()
        return ending

    def on_deliveries(self, deliveries: list[Delivery], room: int) -> None:
        verdicts = self._verdicts(deliveries)
        with self._lock:
            if self._link is not None:
                self._link.claims.give_back(room)
            self._admit(deliveries, verdicts)
            self._advance()
            if self._ending:
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
            self._tell_gates(ending, settled.stale)
        verdicts = self._verdicts(settled.deliveries)
        with self._lock:
            if self._link is not None:
                self._link.claims.give_back(room)
            for settlement in settled.stale:
                if settlement.action is not Action.REQUEUE:
                    self.journal.lost_hold(settlement.delivery.message)
                self.orphans.remember(settlement)
            if ending.acknowledge:
                self._acknowledged(ending.acknowledge, settled.stale)
            self._admit(settled.deliveries, verdicts)
            self._advance()
        if self.telling.due:
            self.telling.tell()

    def _tell_gates(self, ending: Ending, stale: list[Settlement]) -> None:
        refused = {id(settlement) for settlement in stale}
        over = ending.over + [
            settlement.delivery.message
            for settlement in ending.settlements
            if settlement.action in _FINAL
            and id(settlement) not in refused
            and not _goes_on(settlement.delivery.message, settlement.publish)
        ]
        self._leaving = []
        if ending.left:
            self.gates.leave(ending.left)
        if over:
            self.gates.over(over)

    def on_renewed(self) -> None:
        if heartbeat_sent.receivers:
            self.telling.heartbeat()

    def on_lease_lost(self) -> None:
        """What was held is not ours any more. What has not begun is given back, which is in vain for the lost holds
        and right for those that a new lease has brought already; what runs goes on."""
        with self._lock:
            for job in self._take_back_unread():
                if job.acknowledged:
                    self.dispatcher.put(job)
                else:
                    self._give_back(job)
            for executor in self._executors():
                for job in executor.jobs.values():
                    if not job.acknowledged:
                        self.orphans.lose(job)
            self._advance()
            self.wake()

    def _verdicts(self, deliveries: list[Delivery]) -> Verdicts | None:
        """Judge deliveries before the lock is taken, and tell of those that are to be run; None where nothing asks for
        that, and they are judged when they are admitted."""
        if self._stopping or not deliveries or not (self.gates or task_received.receivers):
            return None
        verdicts = {id(delivery): self._judge(delivery) for delivery in deliveries}
        verdicts |= self.gates.judge([delivery for delivery in deliveries if verdicts[id(delivery)] is None])
        if task_received.receivers:
            self.telling.received([delivery for delivery in deliveries if verdicts[id(delivery)] is None])
        return verdicts

    def _admit(self, deliveries: list[Delivery], verdicts: Verdicts | None) -> None:
        if deliveries:
            self.last_progress = time.monotonic()
        for delivery in deliveries:
            let_through = verdicts is not None and verdicts[id(delivery)] is None
            if self._stopping:
                if let_through:
                    self._left(delivery.message)
                self._ending.settlements.append(Settlement(delivery, Action.REQUEUE))
                continue
            if self.orphans and (adopted := self.orphans.adopt(delivery)):
                if let_through:
                    self._left(delivery.message)
                if isinstance(adopted, Settlement):
                    self._ending.settlements.append(adopted)
                continue
            settlement = self._judge(delivery) if verdicts is None else verdicts[id(delivery)]
            if settlement is not None:
                self.journal.not_run(settlement)
                self.telling.not_run(settlement)
                self._ending.end(settlement)
                continue
            job = self.dispatcher.job(delivery)
            if (limits := self.limits.of(delivery.message)) is not None:
                job.hard, job.soft = limits
                if job.hard is not None and self.on_hard_limit is not None:
                    self.on_hard_limit(job.hard)
            if self.app.tasks[delivery.message.task].acks_late:
                self.dispatcher.put(job)
            else:
                self.dispatcher.waiting.add(job)
                self._ending.acknowledge.append(job)

    def _judge(self, delivery: Delivery) -> Settlement | None:
        """As the intake does. A message on which it fails would come back for ever, so it is set aside."""
        try:
            return self.intake.judge(delivery)
        except Exception as error:
            logger.exception("a message could not be judged")
            return Settlement(delivery, Action.DEAD_LETTER, reason=f"{type(error).__name__}: {error}")

    def _acknowledged(self, jobs: list[Job], stale: list[Settlement]) -> None:
        """Early acknowledgements were made; except for the stale ones these jobs run now, at most once."""
        lost = {id(settlement.delivery) for settlement in stale}
        for job in jobs:
            if job not in self.dispatcher.waiting:
                continue
            self.dispatcher.waiting.discard(job)
            if id(job.delivery) in lost:
                self.dispatcher.forget(job)
                self._left(job.message)
                continue
            job.acknowledged = True
            if job.number in self._sentences:
                self.dispatcher.forget(job)
                self._end_by_force(job)
            elif self._stopping:
                self._give_back(job)
            else:
                self.dispatcher.put(job)

    def refuse(self, task_ids: Collection[str]) -> None:
        """End as revoked what is held of these tasks and was not begun. Any thread."""
        with self._lock:
            for job in self.dispatcher.withdraw(task_ids):
                self._left(job.message)
                if job.lost:
                    continue
                settlement = self.intake.revoked(job.delivery)
                self.journal.not_run(settlement)
                self.telling.not_run(settlement)
                self._ending.end(settlement, job.acknowledged)
            self._advance()
            if self._ending:
                self.wake()
        if self.telling.due:
            self.telling.tell()

    def holding(self, task_ids: Collection[str]) -> set[str]:
        """Which of these tasks are held here, begun or not. Any thread."""
        with self._lock:
            return {job.message.id for job in self.dispatcher.jobs() if job.message.id in task_ids}

    # -- reports --

    def _on_packet(self, executor: ExecutorHandle, packet: bytes) -> None:
        kind, number = packets.kind_of(packet), packets.number_of(packet)
        if kind == packets.OUTCOME:
            try:
                report, fault = packets.decode_report(packet), ""
            except msgspec.MsgspecError as error:
                report, fault = None, f"the outcome of the task cannot be read: {error}"
            job = self.dispatcher.finish(executor, number, report.runtime if report is not None else None)
            if job is not None:
                self._sentences.pop(number, None)
                self._conclude(job, report or self._refused(job, fault))
        elif kind == packets.BUNDLE:
            for each in packets.decode_bundle(packet):
                self._on_packet(executor, each)
        elif kind == packets.REPORT:
            self._ending.results.append(packets.decode_state(packet))
        elif kind in (packets.REFUSED, packets.ENDED):
            job = self.dispatcher.finish(executor, number, None)
            if job is None:
                return
            if number in self._sentences:
                self._end_by_force(job)
            else:
                self.orphans.end(job)
                self._requeue(job)
        elif kind == packets.RETIRING:
            executor.stopping, executor.retired = True, packets.decode_retiring(packet)
            self.dispatcher.put_back(self.dispatcher.take_back(executor, _ALL))
            self._tell_retired()

    def _refused(self, job: Job, fault: str) -> Report:
        """An outcome of wrong types, from a callback with a priority in letters for example, is a failure."""
        lost = self.intake.unreadable(job.delivery, fault)
        self._ending.results += lost.fallout
        return packets.Report(
            "FAILURE",
            0.0,
            lost.result,
            lost.publish,
            action=Action.DEAD_LETTER.value,
            reason=fault,
            error=fault,
            parts=lost.parts,
        )

    def _conclude(self, job: Job, report: Report) -> None:
        self.last_progress = time.monotonic()
        self._left(job.message)
        self.journal.ended(job.message, report)
        if job.acknowledged:
            self._ending.publish += report.publish
            if self.gates and not _goes_on(job.message, report.publish):
                self._ending.over.append(job.message)
            if report.result is not None:
                self._ending.results.append(report.result)
            self._ending.parts += report.parts
            if report.closes:
                self._ending.closes.append(report.closes)
            return
        self.orphans.end(job)
        action = _ACTIONS[report.action]
        self._ending.settlements.append(
            Settlement(
                job.delivery,
                action,
                report.delay,
                False,
                report.reason,
                report.result,
                report.publish,
                report.parts,
                report.closes,
            )
        )

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
            self.dispatcher.put_back(self.dispatcher.take_back(executor, _ALL))
            executor.channel.send(packets.encode_stop())
            if self._stopping:
                self._give_back_unread()
            self._advance()
            self.wake()

    def open_lanes(self, executor: ExecutorHandle, lanes: int) -> None:
        """Give it so many tasks at a time from now on."""
        with self._lock:
            if lanes < executor.open:
                self.dispatcher.put_back(self.dispatcher.take_back(executor, _ALL))
            executor.open = lanes
            self._advance()

    def on_executor_exit(self, executor: ExecutorHandle, status: int) -> None:
        """Recover what it had: outcomes that it sent, packets that it did not read; the rest died with it."""
        with self._lock:
            self._switchboard.remove(executor)
            executor.exited = True
            for packet in executor.channel.receive(_ALL):
                self._on_packet(executor, packet)
            unread = self.dispatcher.take_back(executor, _ALL)
            lost = list(executor.jobs.values())
            executor.jobs.clear()
            executor.worked = executor.worked or bool(lost)
            if not executor.stopping:
                logger.error("executor %d %s", executor.pid, describe_exit(status))
            crashed, rest = self._begun_by(executor, self._without_condemned(lost))
            if executor.ending:
                again = [job for job in crashed if not self._runs_once(job)]
                crashed, rest = [job for job in crashed if self._runs_once(job)], again + rest
            self.dispatcher.put_back(rest + unread)
            suspects = sum(map(self.dispatcher.is_suspect, crashed))
            for job in crashed:
                self._crashed(job, describe_exit(status), suspects > 1)
            if self._stopping:
                self._give_back_unread()
            self._advance()
            self.wake()
        if self.telling.due:
            self.telling.tell()

    def _begun_by(self, executor: ExecutorHandle, jobs: list[Job]) -> tuple[list[Job], list[Job]]:
        """Which of ``jobs`` it had begun, and which not. Of a single lane the first is meant, begun or not."""
        lanes = executor.lanes
        slots = range(executor.slot * lanes, (executor.slot + 1) * lanes)
        begun = {self.board.running(slot)[0] for slot in slots}
        for slot in slots:
            self.board.end(slot)
        if lanes == 1 and not executor.retired and not executor.ending:
            return jobs[:1], jobs[1:]
        return [job for job in jobs if job.number in begun], [job for job in jobs if job.number not in begun]

    def _crashed(self, job: Job, how: str, in_doubt: bool) -> None:
        """``in_doubt``: another task ran in the same process that has crashed as often, so this one is not
        dead-lettered for it."""
        self.dispatcher.forget(job)
        self.orphans.end(job)
        self._left(job.message)
        message, crashes = job.message, job.delivery.deliveries + 1
        reason = f"the executor that ran it {how}"
        if self._runs_once(job):
            self.journal.lost(message, reason, "not run again")
            self.telling.lost(message, reason)
            self._ending.end(self.intake.failure(job.delivery, reason).settlement(job.delivery), job.acknowledged)
            if job.acknowledged and self.gates:
                self._ending.over.append(message)
        elif crashes >= self._crash_limit and not in_doubt:
            reason = f"{reason}; {crashes} times now"
            self.journal.lost(message, reason, "dead-lettered")
            self.telling.lost(message, reason)
            lost = self.intake.failure(job.delivery, reason)
            self._ending.end(lost.settlement(job.delivery, Action.DEAD_LETTER, reason))
        else:
            self.journal.lost(message, reason, f"delivered again ({crashes} of {self._crash_limit})")
            self._ending.settlements.append(Settlement(job.delivery, Action.REQUEUE, count=True))

    def _runs_once(self, job: Job) -> bool:
        """Whether it is not run again when its process was lost."""
        return job.acknowledged or self.app.tasks[job.message.task].reject_on_worker_lost is False

    # -- ending tasks by force --

    def message_of(self, task_id: str) -> Message | None:
        """The message of a task that is held here and not condemned yet."""
        with self._lock:
            for job in self.dispatcher.jobs():
                if job.message.id == task_id and job.number not in self._sentences:
                    return job.message
            return None

    def condemn(self, task_id: str, sentence: Sentence) -> tuple[ExecutorHandle | None, int] | None:
        """Pass a sentence on a task that is held here: its number, and the executor that is to be interrupted; none
        where it had not begun, and never will. None when nothing is held that was not condemned before."""
        with self._lock:
            self._read_reports()
            found = self._condemned(task_id, sentence)
            self._advance()
            self.wake()
            return found

    def _condemned(self, task_id: str, sentence: Sentence) -> tuple[ExecutorHandle | None, int] | None:
        if jobs := self.dispatcher.withdraw((task_id,)):
            for job in jobs:
                self._sentences[job.number] = sentence
                self._end_by_force(job)
            return None, jobs[0].number
        held = [(None, job) for job in self.dispatcher.waiting]
        held += [(executor, job) for executor in self._executors() for job in executor.jobs.values()]
        for executor, job in held:
            if job.message.id == task_id and job.number not in self._sentences:
                self._sentences[job.number] = sentence
                return executor, job.number
        return None

    def condemn_running(self, executor: ExecutorHandle, job: Job, sentence: Sentence) -> bool:
        """The same for a job that ``executor`` is known to run; False when it has ended in the meantime."""
        with self._lock:
            if job.number not in executor.jobs or job.number in self._sentences:
                return False
            self._sentences[job.number] = sentence
            return True

    def sentence_of(self, number: int) -> Sentence | None:
        """The sentence on a job that has not ended yet."""
        return self._sentences.get(number)

    def _without_condemned(self, jobs: list[Job]) -> list[Job]:
        """End the condemned ones of jobs whose process is gone; the others."""
        condemned = [job for job in jobs if job.number in self._sentences]
        for job in condemned:
            self.dispatcher.forget(job)
            self._end_by_force(job)
        return [job for job in jobs if job not in condemned]

    def _end_by_force(self, job: Job) -> None:
        sentence = self._sentences.pop(job.number)
        self._ending.results += sentence.results
        self._conclude(job, sentence.report)
        if sentence.tell is not None:
            self.telling.due.append(sentence.tell)

    # -- stopping --

    def stop(self) -> None:
        """Admit nothing any more; what no executor has begun goes back to its queue, in order."""
        with self._lock:
            self._stopping = True
            self._give_back_unread()
            self._advance()
            self.wake()

    def read_reports(self) -> None:
        """What ``collect`` reads, for when its thread cannot go on because the broker is gone. Loop thread."""
        with self._lock:
            self._read_reports()
            self._advance()

    def _read_reports(self) -> None:
        for executor in self._executors():
            for packet in executor.channel.receive(_ALL):
                self._on_packet(executor, packet)

    def give_back_running(self) -> None:
        """Put back what executors run; they are to be killed next."""
        with self._lock:
            self._read_reports()
            for executor in self._executors():
                for job in executor.jobs.values():
                    self._give_back(job)
                executor.jobs.clear()
            self.wake()

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

    def close(self) -> None:
        self.telling.close()
        self._switchboard.close()

    def _give_back_unread(self) -> None:
        for job in sorted(self._take_back_unread(), key=lambda job: job.number):
            self._give_back(job)

    def _take_back_unread(self) -> list[Job]:
        jobs = self.dispatcher.drop_backlog()
        for executor in self._executors():
            jobs += self.dispatcher.take_back(executor, _ALL)
        return jobs

    def _give_back(self, job: Job) -> None:
        self.dispatcher.forget(job)
        self._requeue(job)

    def _requeue(self, job: Job) -> None:
        self._left(job.message)
        if job.acknowledged:
            self._ending.publish.append(job.message)
        elif not job.lost:
            self._ending.settlements.append(Settlement(job.delivery, Action.REQUEUE))

    def _left(self, message: Message) -> None:
        """What gates may have let through will not run here, or no more."""
        if self.gates:
            self._ending.left.append(message)

    # -- passing on --

    def _advance(self) -> None:
        """After any news: send out what can be, and say how much more is wanted."""
        dispatcher, link = self.dispatcher, self._link
        dispatcher.pump()
        idle = dispatcher.idle()
        if idle:
            dispatcher.balance()
        if self._stopping:
            self.on_change()
        elif link is not None:
            idle_lane = idle > 0 and not dispatcher.backlog
            link.claims.offer(dispatcher.wanted(), idle=idle_lane, window=dispatcher.held_window())


def _goes_on(message: Message, publish: Sequence[Message]) -> bool:
    """Whether the same task is sent again: a retry."""
    return any(each.id == message.id for each in publish)
