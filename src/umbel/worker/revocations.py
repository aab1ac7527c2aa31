"""What this worker knows of revoked tasks: a copy of what is noted in the store, and the gate that refuses them.

The copy is read when the worker starts, and what is new about once a second, sooner when a broadcast comes. While it
is empty there is no gate, and deliveries pay nothing.
"""

from __future__ import annotations

import asyncio
import logging
import threading
import time
from collections.abc import Collection, Mapping, Sequence
from functools import partial
from signal import Signals
from typing import TYPE_CHECKING, Any

from umbel.brokers.base import Delivery, Settlement
from umbel.control import revocations_of
from umbel.errors import TaskRevokedError, UmbelError
from umbel.executors.packets import Report
from umbel.revocations import Revocation, records_of
from umbel.worker.ending_tasks import Sentence
from umbel.worker.maintenance import Upkeep

if TYPE_CHECKING:
    from umbel.message import Message
    from umbel.worker.consumer import WorkerConsumer
    from umbel.worker.supervisor import Worker

logger = logging.getLogger("umbel.worker.revocations")

TERMINATED = "terminated"
"""What ``TaskRevokedError`` says where a task was ended."""

PERIOD = 1.0
"""Seconds between looks into the store."""


class Revoked:
    """The revoked tasks by id; also their gate. Safe for threads."""

    def __init__(self, worker: Worker) -> None:
        self._worker = worker
        self._flow = worker.flow
        self._node = worker.hostname
        self._seconds: float = worker.app.conf.task_revoke_expires
        self._store = revocations_of(worker.app)
        self._ends: dict[str, float] = {}
        """Until when (monotonic seconds) tasks are revoked."""
        self._signals: dict[str, str] = {}
        """Of those that are to be ended when they run."""
        self._keys: dict[str, float] = {}
        """Records that were heeded, for as long as they hold."""
        self._mark = 0.0
        self._read = self._store is None
        self._recent: set[str] = set()
        """What was new the last time."""
        self._soonest = float("inf")
        self._changing = threading.Lock()

    def __contains__(self, task_id: str) -> bool:
        ends = self._ends.get(task_id)
        return ends is not None and ends > time.monotonic()

    def ids(self) -> list[str]:
        """The revoked tasks, in the order in which this worker heard of them."""
        return [task_id for task_id in list(self._ends) if task_id in self]

    # -- as a gate --

    def judge(self, deliveries: Sequence[Delivery]) -> Mapping[int, Settlement]:
        if not self._read:
            self.refresh()
        refused = [delivery for delivery in deliveries if delivery.message.id in self]
        return {id(delivery): self._flow.intake.revoked(delivery) for delivery in refused}

    def leave(self, messages: Sequence[Message]) -> None:
        """Nothing is kept for those that pass."""

    # -- hearing of revocations --

    def start(self) -> None:
        """Read what is noted; if that cannot be done now, no task is run before it was."""
        try:
            self.refresh()
        except UmbelError as error:
            logger.warning("revocations cannot be read, no task begins before they are: %s", error)
            self._set_gate()

    def refresh(self) -> None:
        """Heed what was noted since the last time, forget what has ceased to hold. Raises UmbelError when the store
        does not answer."""
        with self._changing:
            fresh: set[str] = set()
            if self._store is not None:
                self._mark, noted = self._store.since(self._mark)
                self._read = True
                for each in noted:
                    record = each.revocation
                    if record.key not in self._keys and record.concerns(self._node):
                        self._keys[record.key] = time.monotonic() + each.seconds
                        self._add(record, each.seconds)
                        fresh.update(record.task_ids)
            self._forget()
            self._set_gate()
            recent, self._recent = self._recent, fresh
        self._heed(fresh | recent)

    def hear(self, task_ids: Sequence[str], signal: str, *, alone: bool = False) -> None:
        """A client has broadcast that these are revoked, and ended with ``signal`` unless it is empty; ``alone``: not
        every worker was meant.

        Noted if the client did not do so itself, as Celery's do not. Raises UmbelError when that is not possible; this
        worker heeds it all the same.
        """
        try:
            self.refresh()
        except UmbelError as error:
            logger.warning("revocations cannot be read: %s", error)
        with self._changing:
            missing = [each for each in task_ids if each not in self or (signal and each not in self._signals)]
            records = records_of(missing, signal, [self._node] if alone else None)
            for record in records:
                self._keys[record.key] = time.monotonic() + self._seconds
                self._add(record, self._seconds)
            self._set_gate()
        self._heed(set(task_ids))
        if self._store is not None and records:
            self._store.note(records, self._seconds)

    def _add(self, record: Revocation, seconds: float) -> None:
        ends = time.monotonic() + seconds
        self._soonest = min(self._soonest, ends)
        for task_id in record.task_ids:
            self._ends[task_id] = max(ends, self._ends.get(task_id, 0.0))
            if record.signal:
                self._signals[task_id] = record.signal

    def _forget(self) -> None:
        now = time.monotonic()
        if now < self._soonest:
            return
        self._ends = {task_id: ends for task_id, ends in self._ends.items() if ends > now}
        self._keys = {key: ends for key, ends in self._keys.items() if ends > now}
        self._signals = {task_id: name for task_id, name in self._signals.items() if task_id in self._ends}
        self._soonest = min((*self._ends.values(), *self._keys.values()), default=float("inf"))

    def _set_gate(self) -> None:
        if self._ends or not self._read:
            self._flow.gates.put_first(self)
        else:
            self._flow.gates.remove(self)

    def _heed(self, task_ids: Collection[str]) -> None:
        """Refuse what waits here already, and end what runs. Those of the last time once more: a delivery that was
        judged before the gate knew may have been admitted after."""
        if not task_ids:
            return
        self._flow.refuse(task_ids)
        ended = {task_id: self._signals[task_id] for task_id in task_ids if task_id in self._signals}
        if ended and (held := self._flow.holding(ended)):
            self._worker.call_soon(self._end, {task_id: ended[task_id] for task_id in held})

    def _end(self, signals: Mapping[str, str]) -> None:
        """End these, which are held; loop thread."""
        for task_id, name in signals.items():
            self._worker.ender.end(task_id, partial(self._sentence, Signals[name]))

    def _sentence(self, number: Signals, message: Message) -> Sentence:
        lost = self._flow.intake.consequences(message, "REVOKED", TaskRevokedError(TERMINATED))
        report = Report("REVOKED", 0.0, lost.result, reason=TERMINATED, parts=lost.parts)
        tell = partial(self._flow.telling.terminated, message, number)
        return Sentence(report, "it was revoked", lost.fallout, number, tell)


class Revoking(Upkeep):
    """Knows the revoked tasks before the first one is claimed, and keeps up with the store."""

    period = pause = PERIOD

    def __init__(self, consumer: WorkerConsumer, **options: Any) -> None:
        super().__init__(consumer, **options)
        consumer.controller.revoked = self.revoked = Revoked(consumer.controller)

    async def start(self, consumer: WorkerConsumer) -> None:
        await asyncio.to_thread(self.revoked.start)
        await super().start(consumer)

    async def act(self, consumer: WorkerConsumer) -> None:
        await asyncio.to_thread(self.revoked.refresh)
