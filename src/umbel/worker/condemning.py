"""Passing sentences on tasks that are to be ended by force, and finding them: waiting, not read yet, running.

Everything here is called with the lock of the work held. How a task that runs is ended is in ``ending_tasks``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from umbel.message import Message
    from umbel.worker.ending_tasks import Sentence
    from umbel.worker.held_work import HeldWork
    from umbel.worker.job import Job
    from umbel.worker.pool import ExecutorHandle


class Condemning:
    """Judges over the tasks of ``work``. A sentence is kept with the job until it has ended."""

    def __init__(self, work: HeldWork) -> None:
        self.work = work
        self._sentences = work.sentences

    def message_of(self, task_id: str) -> Message | None:
        """The message of a task that is held here and not condemned yet."""
        for job in self.work.dispatcher.jobs():
            if job.message.id == task_id and job.number not in self._sentences:
                return job.message
        return None

    def condemn(self, task_id: str, sentence: Sentence) -> tuple[ExecutorHandle | None, int] | None:
        """Condemn a task that is held here: its number, and the executor that is to be interrupted; none where it had
        not begun, and never will. None when nothing is held that was not condemned before."""
        work = self.work
        if jobs := work.dispatcher.withdraw((task_id,)):
            for job in jobs:
                self._sentences[job.number] = sentence
                work.end_by_force(job)
            return None, jobs[0].number
        held: list[tuple[ExecutorHandle | None, Job]] = [(None, job) for job in work.dispatcher.waiting]
        held += [(executor, job) for executor in work.executors() for job in executor.jobs.values()]
        for executor, job in held:
            if job.message.id == task_id and job.number not in self._sentences:
                self._sentences[job.number] = sentence
                return executor, job.number
        return None

    def condemn_running(self, executor: ExecutorHandle, job: Job, sentence: Sentence) -> bool:
        """Condemn a job that ``executor`` is known to run; False when it has ended in the meantime."""
        if job.number not in executor.jobs or job.number in self._sentences:
            return False
        self._sentences[job.number] = sentence
        return True

    def execute(self, jobs: list[Job]) -> list[Job]:
        """End the condemned ones of jobs whose process is gone; returns the others."""
        condemned = [job for job in jobs if job.number in self._sentences]
        for job in condemned:
            self.work.dispatcher.forget(job)
            self.work.end_by_force(job)
        return [job for job in jobs if job not in condemned]
