"""Work whose hold was lost while it ran here.

A broker gives a message to somebody else when the worker's lease or session has ended. If it comes back to this very
worker, the task need not run again: a running job takes the new delivery over, a finished one is settled with it.
"""

from __future__ import annotations

from collections import OrderedDict
from typing import TYPE_CHECKING

from umbel.brokers.base import Action, Delivery, Settlement

if TYPE_CHECKING:
    from umbel.worker.job import Job

_MOST_REMEMBERED = 10_000


class Orphans:
    """Jobs that run, and settlements that were refused, by task id."""

    def __init__(self) -> None:
        self._running: dict[str, Job] = {}
        self._finished: OrderedDict[str, Settlement] = OrderedDict()

    def __bool__(self) -> bool:
        return bool(self._running or self._finished)

    def lose(self, job: Job) -> None:
        """The hold of a running job was lost."""
        job.lost = True
        self._running[job.message.id] = job

    def end(self, job: Job) -> None:
        """The job came to an end, or its process did."""
        if job.lost:
            self._running.pop(job.message.id, None)

    def remember(self, refused: Settlement) -> None:
        """The hold was lost before this could be settled; the oldest are forgotten beyond a bound."""
        refused.keep = ()
        if refused.action is Action.ACK:
            self._finished[refused.delivery.message.id] = refused
            if len(self._finished) > _MOST_REMEMBERED:
                self._finished.popitem(last=False)

    def adopt(self, delivery: Delivery) -> Job | Settlement | None:
        """What this delivery is the return of: a job that runs on with it, a settlement to be made with it."""
        identity, headers = delivery.message.id, delivery.message.headers
        job = self._running.get(identity)
        if job is not None and job.message.headers == headers:
            del self._running[identity]
            job.delivery, job.lost = delivery, False
            return job
        finished = self._finished.get(identity)
        if finished is not None and finished.delivery.message.headers == headers:
            del self._finished[identity]
            finished.delivery = delivery
            return finished
        return None
