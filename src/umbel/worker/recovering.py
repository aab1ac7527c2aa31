"""What executors leave when they exit, or are to be killed because the worker stops: outcomes that they sent, packets
that they did not read, tasks that die with them.

Everything here is called with the lock of the work held.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from umbel.brokers.base import Action, Settlement
from umbel.worker.held_work import ALL
from umbel.worker.pool import describe_exit

if TYPE_CHECKING:
    from umbel.executors.board import Board
    from umbel.worker.condemning import Condemning
    from umbel.worker.held_work import HeldWork
    from umbel.worker.job import Job
    from umbel.worker.pool import ExecutorHandle
    from umbel.worker.reports import Reports

logger = logging.getLogger("umbel.worker")


class Recovery:
    """Sorts what is left into what goes on elsewhere and what was lost, and counts crashes."""

    def __init__(self, work: HeldWork, reports: Reports, condemning: Condemning, board: Board) -> None:
        self.work = work
        self.reports = reports
        self.condemning = condemning
        self.board = board
        self._crash_limit = work.app.conf.worker_crash_limit

    def recover(self, executor: ExecutorHandle, status: int) -> None:
        """It has exited with this status of ``waitpid(2)``; nothing will come from it any more."""
        dispatcher = self.work.dispatcher
        self.reports.read(executor, ALL)
        unread = dispatcher.take_back(executor, ALL)
        lost = list(executor.jobs.values())
        executor.jobs.clear()
        executor.worked = executor.worked or bool(lost)
        if not executor.stopping:
            logger.error("executor %d %s", executor.pid, describe_exit(status))
        crashed, rest = self._begun_by(executor, self.condemning.execute(lost))
        if executor.ending:
            again = [job for job in crashed if not self._runs_once(job)]
            crashed, rest = [job for job in crashed if self._runs_once(job)], again + rest
        dispatcher.put_back(rest + unread)
        suspects = sum(map(dispatcher.is_suspect, crashed))
        for job in crashed:
            self._crashed(job, describe_exit(status), suspects > 1)
        if self.work.stopping:
            self.work.give_back_unread()

    def abandon_running(self) -> None:
        """All executors are to be killed next: what they run goes back, except for what was acknowledged, which fails
        because it is not to begin twice."""
        work = self.work
        self.reports.read_all()
        work.give_back_unread()
        for executor in work.executors():
            for job in executor.jobs.values():
                if job.acknowledged:
                    work.dispatcher.forget(job)
                    work.left(job.message)
                    self._fail(job, "its worker was stopped while it ran")
                else:
                    work.give_back(job)
            executor.jobs.clear()

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
        work = self.work
        work.dispatcher.forget(job)
        work.orphans.end(job)
        work.left(job.message)
        reason, crashes = f"the executor that ran it {how}", job.delivery.deliveries + 1
        if self._runs_once(job):
            self._fail(job, reason)
        elif crashes >= self._crash_limit and not in_doubt:
            self._set_aside(job, f"{reason}; {crashes} times now")
        else:
            work.journal.lost(job.message, reason, f"delivered again ({crashes} of {self._crash_limit})")
            work.ending.settlements.append(Settlement(job.delivery, Action.REQUEUE, count=True))

    def _runs_once(self, job: Job) -> bool:
        """Whether it is not run again when its process was lost."""
        return job.acknowledged or self.work.app.tasks[job.message.task].reject_on_worker_lost is False

    def _fail(self, job: Job, reason: str) -> None:
        work = self.work
        work.journal.lost(job.message, reason, "not run again")
        work.telling.lost(job.message, reason)
        work.ending.end(work.intake.failure(job.delivery, reason).settlement(job.delivery), job.acknowledged)
        if job.acknowledged and work.gates:
            work.ending.over.append(job.message)

    def _set_aside(self, job: Job, reason: str) -> None:
        work = self.work
        work.journal.lost(job.message, reason, "dead-lettered")
        work.telling.lost(job.message, reason)
        lost = work.intake.failure(job.delivery, reason)
        work.ending.end(lost.settlement(job.delivery, Action.DEAD_LETTER, reason))
