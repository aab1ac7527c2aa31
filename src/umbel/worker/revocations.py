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
from umbel.revocations import Key, Revocation, records_of, stamps_of
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
    """The revoked tasks, by id or stamp; also their gate. Safe for threads."""

    def __init__(self, worker: Worker) -> None:
        self._worker = worker
        self._flow = worker.flow
        self._node = worker.hostname
        self._seconds: float = worker.app.conf.task_revoke_expires
        self._store = revocations_of(worker.app)
        self._ends: dict[Key, float] = {}
        """Until when (monotonic seconds) tasks are revoked."""
        self._stamped = False
        """Whether some are by stamp."""
        self._signals: dict[Key, str] = {}
        """Of those that are to be ended when they run."""
        self._keys: dict[str, float] = {}
        """Records that were heeded, for as long as they hold."""
        self._mark = 0.0
        self._read = self._store is None
        self._recent: set[Key] = set()
        """What was new the last time."""
        self._soonest = float("inf")
        self._changing = threading.Lock()

    def __contains__(self, name: Key) -> bool:
        ends = self._ends.get(name)
        return ends is not None and ends > time.monotonic()

    def ids(self) -> list[str]:
        """The tasks that are revoked by id, in the order in which this worker heard of them."""
        return [name for name in list(self._ends) if isinstance(name, str) and name in self]

    def refuses(self, message: Message) -> bool:
        """Whether the task is revoked."""
        return message.id in self or (self._stamped and any(stamp in self for stamp in stamps_of(message)))

    # -- as a gate --

    def judge(self, deliveries: Sequence[Delivery]) -> Mapping[int, Settlement]:
        if not self._read:
            self.refresh()
        refused = [delivery for delivery in deliveries if self.refuses(delivery.message)]
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
            fresh: set[Key] = set()
            if self._store is not None:
                self._mark, noted = self._store.since(self._mark)
                self._read = True
                for each in noted:
                    record = each.revocation
                    if record.key not in self._keys and record.concerns(self._node):
                        self._keys[record.key] = time.monotonic() + each.seconds
                        self._add(record, each.seconds)
                        fresh.update(record.names)
            self._forget()
            self._set_gate()
            recent, self._recent = self._recent, fresh
        self._heed(fresh | recent)

    def hear(self, names: Sequence[Key], signal: str, *, alone: bool = False) -> None:
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
            missing = [each for each in names if each not in self or (signal and each not in self._signals)]
            records = records_of(missing, signal, [self._node] if alone else None)
            for record in records:
                self._keys[record.key] = time.monotonic() + self._seconds
                self._add(record, self._seconds)
            self._set_gate()
        self._heed(set(names))
        if self._store is not None and records:
            self._store.note(records, self._seconds)

    def _add(self, record: Revocation, seconds: float) -> None:
        ends = time.monotonic() + seconds
        self._soonest = min(self._soonest, ends)
        self._stamped = self._stamped or bool(record.stamps)
        for name in record.names:
            self._ends[name] = max(ends, self._ends.get(name, 0.0))
            if record.signal:
                self._signals[name] = record.signal

    def _forget(self) -> None:
        now = time.monotonic()
        if now < self._soonest:
            return
        self._ends = {name: ends for name, ends in self._ends.items() if ends > now}
        self._stamped = any(not isinstance(name, str) for name in self._ends)
        self._keys = {key: ends for key, ends in self._keys.items() if ends > now}
        self._signals = {name: signal for name, signal in self._signals.items() if name in self._ends}
        self._soonest = min((*self._ends.values(), *self._keys.values()), default=float("inf"))

    def _set_gate(self) -> None:
        if self._ends or not self._read:
            self._flow.gates.put_first(self)
        else:
            self._flow.gates.remove(self)

    def _heed(self, names: Collection[Key]) -> None:
        """Refuse what waits here already, and end what runs. Those of the last time once more: a delivery that was
        judged before the gate knew may have been admitted after."""
        if not names:
            return
        meant = self._meant(names)
        self._flow.refuse(meant)
        ended = {task_id: self._signals[name] for task_id, name in meant.items() if name in self._signals}
        if ended and (held := self._flow.holding(ended)):
            self._worker.call_soon(self._end, {task_id: ended[task_id] for task_id in held})

    def _meant(self, names: Collection[Key]) -> dict[str, Key]:
        """The tasks that these name, each with its name: by id, and by stamp as far as they are held here."""
        found: dict[str, Key] = {}
        stamps = {name for name in names if not isinstance(name, str)}
        if stamps:
            for message in self._flow.messages():
                found.update((message.id, stamp) for stamp in stamps_of(message) if stamp in stamps)
        found.update((name, name) for name in names if isinstance(name, str))
        return found

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
