"""Admission: deliveries become jobs, or are refused, put off, or sent back at once.

What has to ask a store or to call receivers of signals happens in ``verdicts``, without the lock; the rest is called
with it held.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Collection
from typing import TYPE_CHECKING

from umbel.brokers.base import Action, Delivery, Settlement
from umbel.signals import task_received
from umbel.worker.time_limits import TimeLimits

if TYPE_CHECKING:
    from umbel.app import Umbel
    from umbel.message import Message
    from umbel.worker.held_work import HeldWork
    from umbel.worker.job import Job

logger = logging.getLogger("umbel.worker")

Verdicts = dict[int, Settlement | None]
"""What is to be done with deliveries, by their ``id``; None: run it."""


class Admission:
    """What comes into the worker's hands."""

    def __init__(self, app: Umbel, work: HeldWork) -> None:
        self.app = app
        self.work = work
        self.limits = TimeLimits(app)
        self.on_hard_limit: Callable[[float], object] | None = None
        """Called with the lock held and a limit in seconds, when a task that has one is admitted."""

    def verdicts(self, deliveries: list[Delivery]) -> Verdicts | None:
        """Judge deliveries before the lock is taken, and tell of those that are to be run; None where nothing asks for
        that, and they are judged when they are admitted."""
        work = self.work
        if work.stopping or not deliveries or not (work.gates or task_received.receivers):
            return None
        verdicts = {id(delivery): self._judge(delivery) for delivery in deliveries}
        verdicts |= work.gates.judge([delivery for delivery in deliveries if verdicts[id(delivery)] is None])
        if task_received.receivers:
            work.telling.received([delivery for delivery in deliveries if verdicts[id(delivery)] is None])
        return verdicts

    def admit(self, deliveries: list[Delivery], verdicts: Verdicts | None) -> None:
        """Put what may run into the backlog; what is acknowledged early waits until that was confirmed."""
        work = self.work
        ending = work.ending
        if deliveries:
            work.last_progress = time.monotonic()
        for delivery in deliveries:
            let_through = verdicts is not None and verdicts[id(delivery)] is None
            if work.stopping:
                if let_through:
                    work.left(delivery.message)
                ending.settlements.append(Settlement(delivery, Action.REQUEUE))
                continue
            if work.orphans and (adopted := work.orphans.adopt(delivery)):
                if let_through:
                    work.left(delivery.message)
                if isinstance(adopted, Settlement):
                    ending.settlements.append(adopted)
                continue
            settlement = self._judge(delivery) if verdicts is None else verdicts[id(delivery)]
            if settlement is not None:
                work.not_run(settlement)
                ending.end(settlement)
                continue
            job = work.dispatcher.job(delivery)
            if (limits := self.limits.of(delivery.message)) is not None:
                job.hard, job.soft = limits
                if job.hard is not None and self.on_hard_limit is not None:
                    self.on_hard_limit(job.hard)
            if self.app.tasks[delivery.message.task].acks_late:
                work.dispatcher.put(job)
            else:
                work.dispatcher.waiting.add(job)
                ending.acknowledge.append(job)

    def keep(self, settlement: Settlement, lanes: int, keep: Callable[[Message], Delivery | None]) -> None:
        """Run here at once what this end of a task sends, up to so many messages, if nothing else waits for a lane:
        it begins while the settlement that sends it is on its way."""
        work = self.work
        if work.stopping or work.gates or task_received.receivers or work.dispatcher.backlog:
            return
        publish, kept = list(settlement.publish), list[Delivery]()
        for at, message in enumerate(publish):
            if len(kept) < lanes and (delivery := keep(message)) is not None:
                publish[at] = delivery.message
                kept.append(delivery)
        if kept:
            settlement.publish, settlement.keep = tuple(publish), tuple(kept)
            self.admit(kept, None)

    def _judge(self, delivery: Delivery) -> Settlement | None:
        """As the intake does. A message on which it fails would come back for ever, so it is set aside."""
        try:
            return self.work.intake.judge(delivery)
        except Exception as error:
            logger.exception("a message could not be judged")
            return Settlement(delivery, Action.DEAD_LETTER, reason=f"{type(error).__name__}: {error}")

    def acknowledged(self, jobs: list[Job], stale: list[Settlement]) -> None:
        """Early acknowledgements were made; except for the stale ones these jobs run now, at most once."""
        work, dispatcher = self.work, self.work.dispatcher
        lost = {id(settlement.delivery) for settlement in stale}
        for job in jobs:
            if job not in dispatcher.waiting:
                continue
            dispatcher.waiting.discard(job)
            if id(job.delivery) in lost:
                dispatcher.forget(job)
                work.left(job.message)
                continue
            job.acknowledged = True
            if job.number in work.sentences:
                dispatcher.forget(job)
                work.end_by_force(job)
            elif work.stopping:
                work.give_back(job)
            else:
                dispatcher.put(job)

    def forget_waiting(self) -> None:
        """Of early acknowledgements that are under way nobody will hear any more."""
        work, dispatcher = self.work, self.work.dispatcher
        for job in dispatcher.waiting:
            dispatcher.forget(job)
            work.sentences.pop(job.number, None)
            work.left(job.message)
        dispatcher.waiting.clear()

    def refuse(self, task_ids: Collection[str]) -> None:
        """End as revoked what was admitted of these tasks and has not begun."""
        work = self.work
        for job in work.dispatcher.withdraw(task_ids):
            work.left(job.message)
            if job.lost:
                continue
            settlement = work.intake.revoked(job.delivery)
            work.not_run(settlement)
            work.ending.end(settlement, job.acknowledged)
