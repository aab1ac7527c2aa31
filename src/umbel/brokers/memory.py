"""``memory://``: a broker for the threads of one process, for tests and notebooks.

``memory://name`` is one store, shared by all brokers of that name in the process and gone with it. It keeps the whole
contract of :mod:`umbel.brokers.base` (leases, delays, dead letters …) exactly, so that what passes with it passes
with a server. Another process has its own stores, a forked child too.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Collection, Sequence
from typing import TYPE_CHECKING

import msgspec

from umbel.brokers.base import (
    Action,
    Broker,
    Consumer,
    DeadLetter,
    Delivery,
    Features,
    Listener,
    Lock,
    Note,
    Options,
    Place,
    QueueSize,
    Settled,
    Settlement,
)
from umbel.brokers.memory_revocations import MemoryRevocations
from umbel.brokers.memory_store import Entry, Hold, Inbox, Store, forget_parents_stores, store_named
from umbel.brokers.routing import topic_matches
from umbel.message import Message, new_id, now
from umbel.queues import Queue
from umbel.revocations import Revocations

if TYPE_CHECKING:
    from umbel.backends.base import Backend


class MemoryBroker(Broker):
    """See the module's docstring."""

    features = Features(shared=False)

    def __init__(self, url: str, options: Options | None = None) -> None:
        super().__init__(url, options)
        self.name = url.partition("://")[2].strip("/")

    @property
    def store(self) -> Store:
        return store_named(self.name)

    def publish(self, messages: Sequence[Message], timeout: float | None = None) -> None:
        store = self.store
        with store.changed:
            routed = [(message, store.bindings.route(message)) for message in messages]
            self.send(store, routed)

    def send(self, store: Store, routed: Sequence[tuple[Message, list[str]]]) -> None:
        """Put routed messages into their queues. The caller holds ``store.changed``."""
        moment = now()
        for message, queues in routed:
            delayed = message.eta is not None and message.eta > moment and not self.options.mixed_fleet
            store.send(message, queues, self._rank(message), delayed)
        store.changed.notify_all()

    def _rank(self, message: Message) -> int:
        return message.priority if self.options.lowest_priority_first else -message.priority

    def consumer(self, queues: Sequence[Queue], *, name: str, lease: float = 5.0, window: int = 0) -> Consumer:
        return MemoryConsumer(self, queues, lease)

    def stores_results_of(self, backend: Backend) -> bool:
        from umbel.backends.memory import MemoryBackend

        return isinstance(backend, MemoryBackend) and backend.name == self.name

    def declare(self, queue: Queue, timeout: float | None = None) -> None:
        with self.store.changed:
            self.store.declare(queue)

    def queues(self) -> list[str]:
        with self.store.changed:
            return sorted(self.store.shelves)

    def size(self, queue: str) -> QueueSize:
        with self.store.changed:
            self._expire_dead(queue)
            return self.store.size(queue)

    def peek(self, queue: str, limit: int = 10) -> list[Message]:
        with self.store.changed:
            self.store.size(queue)
            return [entry.message for _, _, entry in sorted(self.store.look(queue).ready)[:limit]]

    def locate(self, task_id: str) -> Place | None:
        with self.store.changed:
            return self.store.locate(task_id)

    def purge(self, queue: str) -> int:
        with self.store.changed:
            shelf = self.store.look(queue)
            removed = len(shelf.ready) + len(shelf.delayed)
            shelf.ready, shelf.delayed = [], []
            return removed

    def delete(self, queue: str) -> None:
        with self.store.changed:
            self.store.delete(queue)

    def dead_letters(self, queue: str, limit: int = 100) -> list[DeadLetter]:
        with self.store.changed:
            self._expire_dead(queue)
            return self.store.look(queue).dead[:limit]

    def _expire_dead(self, queue: str) -> None:
        self.store.drop_dead_before(queue, now() - self.options.dead_letter_expires)

    def replay(self, queue: str, ids: Collection[str] | None = None) -> int:
        with self.store.changed:
            letters = self.store.take_dead(queue, ids)
            for letter in letters:
                self.store.send(letter.message, [queue], self._rank(letter.message), delayed=False)
            self.store.changed.notify_all()
            return len(letters)

    def purge_dead(self, queue: str, ids: Collection[str] | None = None) -> int:
        with self.store.changed:
            return len(self.store.take_dead(queue, ids))

    def parked(self, queue: str) -> dict[str, int]:
        with self.store.changed:
            names: dict[str, int] = {}
            for entry in self.store.look(queue).parked:
                names[entry.message.task] = names.get(entry.message.task, 0) + 1
            return names

    def unpark(self, queue: str, tasks: Collection[str]) -> int:
        with self.store.changed:
            shelf = self.store.look(queue)
            wanted = [entry for entry in shelf.parked if entry.message.task in tasks]
            shelf.parked = [entry for entry in shelf.parked if entry.message.task not in tasks]
            for entry in wanted:
                shelf.put(entry)
            self.store.changed.notify_all()
            return len(wanted)

    def broadcast(self, exchange: str, note: Note) -> None:
        with self.store.changed:
            for inbox in self.store.inboxes:
                if inbox.exchange == exchange and topic_matches(inbox.pattern, note.routing_key):
                    inbox.notes.append(note)
            self.store.changed.notify_all()

    def listen(self, exchange: str, pattern: str = "#") -> Listener:
        return MemoryListener(self.store, Inbox(exchange, pattern, deque()))

    def lock(self, name: str, ttl: float) -> Lock:
        return MemoryLock(self.store, name, ttl)

    def revocations(self) -> Revocations:
        return MemoryRevocations(self.store)

    def close(self) -> None:
        """Nothing is connected, so nothing is closed; the store stays."""

    def after_fork(self) -> None:
        forget_parents_stores()


class MemoryConsumer(Consumer):
    """A hold in the store; see :class:`Consumer`."""

    def __init__(self, broker: MemoryBroker, queues: Sequence[Queue], lease: float) -> None:
        self._broker = broker
        self._store = broker.store
        self._queues = list(dict.fromkeys(queue.name for queue in queues))
        self._lease = lease
        self._hold = Hold(time.monotonic() + lease, {})
        self._interrupted = False
        with self._store.changed:
            for queue in queues:
                self._store.declare(queue)
            for queue in self._queues:
                self._store.watched[queue] = self._store.watched.get(queue, 0) + 1
            self._store.holds.append(self._hold)

    def receive(self, limit: int, timeout: float) -> list[Delivery]:
        deadline = time.monotonic() + timeout
        with self._store.changed:
            while True:
                claimed = self._claim(limit)
                rest = deadline - time.monotonic()
                if claimed or self._interrupted or self._hold.closed or rest <= 0:
                    self._interrupted = False
                    return claimed
                due = self._store.next_due(self._queues)
                self._store.changed.wait(rest if due is None else max(0.0, min(rest, due - now())))

    def _claim(self, limit: int) -> list[Delivery]:
        if self._hold.lost or self._hold.closed:
            return []
        claimed = self._store.claim(self._hold, self._queues, limit)
        return [_delivery(tag, entry) for tag, entry in claimed]

    def settle(self, settlements: Sequence[Settlement], want: int = 0) -> Settled:
        stale: list[Settlement] = []
        with self._store.changed:
            ours: list[tuple[Settlement, list[tuple[Message, list[str]]]]] = []
            for settlement in settlements:
                if settlement.delivery.tag in self._hold.entries:
                    route = self._store.bindings.route
                    ours.append((settlement, [(message, route(message)) for message in settlement.publish]))
                else:
                    stale.append(settlement)
            for settlement, routed in ours:
                entry = self._hold.entries.pop(settlement.delivery.tag, None)
                if entry is None:
                    stale.append(settlement)
                else:
                    self._end(settlement, entry, routed)
            self._store.changed.notify_all()
            return Settled(self._claim(want) if want > 0 else [], stale)

    def _end(self, settlement: Settlement, entry: Entry, routed: list[tuple[Message, list[str]]]) -> None:
        if settlement.result is not None:
            from umbel.backends.memory import results_named

            results_named(self._broker.name).put([settlement.result])
        if settlement.parts:
            from umbel.backends.memory import results_named

            completed = results_named(self._broker.name).add_parts(settlement.parts, once=True)
            route = self._store.bindings.route
            routed = [*routed, *((part.then, route(part.then)) for part in completed)]
        self._broker.send(self._store, routed)
        entry.deliveries += settlement.count
        if settlement.action is Action.REQUEUE and settlement.delay > 0:
            self._store.delay(entry, now() + settlement.delay)
        elif settlement.action is Action.REQUEUE:
            self._store.put_last(entry)
        elif settlement.action is Action.DEAD_LETTER:
            self._store.bury(entry, settlement.reason)
        elif settlement.action is Action.PARK:
            self._store.shelf(entry.message.queue).parked.append(entry)

    def renew(self) -> bool:
        with self._store.changed:
            kept = not self._hold.lost
            self._hold.lost = False
            self._hold.ends = time.monotonic() + self._lease
            self._store.reap()
            self._store.changed.notify_all()
            return kept

    def interrupt(self) -> None:
        with self._store.changed:
            self._interrupted = True
            self._store.changed.notify_all()

    def close(self) -> None:
        with self._store.changed:
            if self._hold.closed:
                return
            self._hold.closed = True
            self._store.give_back(self._hold, counted=False)
            self._store.holds.remove(self._hold)
            for queue in self._queues:
                self._store.watched[queue] -= 1
                if not self._store.watched[queue]:
                    del self._store.watched[queue]
                    if queue in self._store.auto_delete:
                        self._store.delete(queue)
            self._store.changed.notify_all()


def _delivery(tag: int, entry: Entry) -> Delivery:
    message = entry.message
    if entry.deliveries:
        message = msgspec.structs.replace(message, redelivered=True)
    return Delivery(tag, message.queue, message, entry.deliveries)


class MemoryListener(Listener):
    """An inbox in the store; see :class:`Listener`."""

    def __init__(self, store: Store, inbox: Inbox) -> None:
        self._store = store
        self._inbox = inbox
        with store.changed:
            store.inboxes.append(inbox)

    def receive(self, timeout: float) -> list[Note]:
        with self._store.changed:
            self._store.changed.wait_for(lambda: self._inbox.notes or self._inbox.closed, timeout)
            notes = list(self._inbox.notes)
            self._inbox.notes.clear()
            return notes

    def close(self) -> None:
        with self._store.changed:
            if not self._inbox.closed:
                self._inbox.closed = True
                self._store.inboxes.remove(self._inbox)
                self._store.changed.notify_all()


class MemoryLock(Lock):
    """A named holder and a moment in the store; see :class:`Lock`."""

    def __init__(self, store: Store, name: str, ttl: float) -> None:
        self._store = store
        self._name = name
        self._ttl = ttl
        self._token = new_id()

    def acquire(self) -> bool:
        with self._store.changed:
            holder, ends = self._store.locks.get(self._name, ("", 0.0))
            if holder != self._token and ends > time.monotonic():
                return False
            self._store.locks[self._name] = (self._token, time.monotonic() + self._ttl)
            return True

    def renew(self) -> bool:
        with self._store.changed:
            holder, ends = self._store.locks.get(self._name, ("", 0.0))
            if holder != self._token or ends <= time.monotonic():
                return False
            self._store.locks[self._name] = (self._token, time.monotonic() + self._ttl)
            return True

    def release(self) -> None:
        with self._store.changed:
            if self._store.locks.get(self._name, ("", 0.0))[0] == self._token:
                del self._store.locks[self._name]
