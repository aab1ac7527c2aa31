"""All work that the worker holds, and what becomes of it: run to an outcome, ended by force, given back.

Everything here is called with ``lock`` held, for microseconds at a time; nothing blocks, and nothing talks to the
broker.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import TYPE_CHECKING

from umbel.brokers.base import Action, Settlement
from umbel.worker.dispatch import Dispatcher, fixed_window
from umbel.worker.gates import Gates, goes_on
from umbel.worker.intake import Intake
from umbel.worker.journal import Journal
from umbel.worker.link import Ending
from umbel.worker.orphans import Orphans
from umbel.worker.telling import Telling

if TYPE_CHECKING:
    from umbel.app import Umbel
    from umbel.executors.packets import Report
    from umbel.message import Message
    from umbel.worker.ending_tasks import Sentence
    from umbel.worker.job import Job
    from umbel.worker.pool import ExecutorHandle

ALL = 1 << 30
"""As many as there are."""

_ACTIONS = {action.value: action for action in Action}


class HeldWork:
    """``dispatcher`` has what has not ended; ``ending`` collects what is to be settled next, in order.

    ``sentences``: what becomes of tasks that are being ended by force, by the number of their job. ``stopping``:
    nothing is admitted any more. ``last_progress``: when anything was claimed or ended last, by the monotonic clock.
    """

    def __init__(
        self,
        app: Umbel,
        executors: Callable[[], list[ExecutorHandle]],
        on_retired: Callable[[], None],
        sender: object,
        journal: Journal | None = None,
    ) -> None:
        """``on_retired``: called when an executor has got all that it may be sent; ``sender``: of signals; ``journal``:
        the log, where it is another one."""
        conf = app.conf
        self.app = app
        self.executors = executors
        self.telling = Telling(app, sender)
        self.intake = Intake(app, conf.worker_delivery_limit, self.telling.due)
        self.gates = Gates()
        self.journal = journal or Journal(app)
        self.orphans = Orphans()
        self.dispatcher = Dispatcher(
            executors, conf.worker_prefetch_seconds, fixed_window(conf), conf.worker_crash_limit - 1, on_retired
        )
        self.lock = threading.RLock()
        self.sentences: dict[int, Sentence] = {}
        self.ending = Ending()
        self.stopping = False
        self.last_progress = time.monotonic()

    # -- ends --

    def conclude(self, job: Job, report: Report) -> Settlement | None:
        """It came to this end; how it is settled, unless it was acknowledged before."""
        self.last_progress = time.monotonic()
        ending, message = self.ending, job.delivery.message
        self.left(message)
        self.journal.ended(message, report)
        if job.acknowledged:
            ending.publish += report.publish
            if self.gates and not goes_on(message, report.publish):
                ending.over.append(message)
            if report.result is not None:
                ending.results.append(report.result)
            ending.parts += report.parts
            if report.closes:
                ending.closes.append(report.closes)
            return None
        self.orphans.end(job)
        settlement = Settlement(
            job.delivery,
            _ACTIONS[report.action],
            report.delay,
            False,
            report.reason,
            report.result,
            report.publish,
            report.parts,
            report.closes,
            trusting=True,
        )
        ending.settlements.append(settlement)
        return settlement

    def end_by_force(self, job: Job) -> None:
        """Its sentence takes effect."""
        sentence = self.sentences.pop(job.number)
        self.ending.results += sentence.results
        self.conclude(job, sentence.report)
        if sentence.tell is not None:
            self.telling.due.append(sentence.tell)

    def not_run(self, settlement: Settlement) -> None:
        """It ended before any executor saw it."""
        self.journal.not_run(settlement)
        self.telling.not_run(settlement)

    def left(self, message: Message) -> None:
        """What gates may have let through will not run here, or no more."""
        if self.gates:
            self.ending.left.append(message)

    # -- the way back --

    def requeue(self, job: Job) -> None:
        """Back to its queue, for any worker; the dispatcher has it no more."""
        self.left(job.message)
        if job.acknowledged:
            self.ending.publish.append(job.message)
        elif not job.lost:
            self.ending.settlements.append(Settlement(job.delivery, Action.REQUEUE))

    def give_back(self, job: Job) -> None:
        """The same for one that no executor will run."""
        self.dispatcher.forget(job)
        self.requeue(job)

    def give_back_unread(self) -> None:
        """All that no executor has read, in order."""
        for job in sorted(self.take_back_unread(), key=lambda job: job.number):
            self.give_back(job)

    def take_back_unread(self) -> list[Job]:
        """What no executor has read; none will."""
        jobs = self.dispatcher.drop_backlog()
        for executor in self.executors():
            jobs += self.dispatcher.take_back(executor, ALL)
        return jobs

    def lose_holds(self) -> None:
        """The broker does not hold this for us any more. What has not begun is given back, which is in vain for the
        lost holds and right for those that a new lease has brought already; what runs goes on."""
        for job in self.take_back_unread():
            if job.acknowledged:
                self.dispatcher.put(job)
            else:
                self.give_back(job)
        for executor in self.executors():
            for job in executor.jobs.values():
                if not job.acknowledged:
                    self.orphans.lose(job)
