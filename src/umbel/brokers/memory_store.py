"""What a ``memory://`` broker keeps: queues, holds, bindings, listeners and locks, under one condition variable.

All :class:`Store` methods expect the caller to hold ``store.changed``; whoever adds work notifies it.
"""

from __future__ import annotations

import heapq
import os
import threading
import time
from collections import deque
from collections.abc import Collection, Iterable, Sequence
from itertools import count

import msgspec
from msgspec import Struct

from umbel.brokers.base import DeadLetter, Note, Place, QueueSize
from umbel.brokers.routing import Bindings
from umbel.message import Message, new_id, now
from umbel.queues import Queue
from umbel.revocations import Revocation


class Entry(Struct, eq=False):
    """A message in a queue. Smaller ``rank`` goes first, then smaller ``turn``."""

    message: Message
    rank: int
    turn: int
    deliveries: int = 0


class Hold(Struct, eq=False):
    """What one consumer holds, until ``ends`` (monotonic seconds)."""

    ends: float
    entries: dict[int, Entry]
    lost: bool = False
    closed: bool = False


class Shelf:
    """One queue: ready and delayed messages as heaps, parked and dead ones as lists."""

    def __init__(self) -> None:
        self.ready: list[tuple[int, int, Entry]] = []
        self.delayed: list[tuple[float, int, Entry]] = []
        self.parked: list[Entry] = []
        self.dead: list[DeadLetter] = []

    def put(self, entry: Entry) -> None:
        heapq.heappush(self.ready, (entry.rank, entry.turn, entry))


class Inbox(Struct, eq=False):
    """A listener's unread notes."""

    exchange: str
    pattern: str
    notes: deque[Note]
    closed: bool = False


class Store:
    """Everything under one ``memory://`` name, in this process."""

    def __init__(self) -> None:
        self.changed = threading.Condition()
        self.shelves: dict[str, Shelf] = {}
        self.holds: list[Hold] = []
        self.watched: dict[str, int] = {}
        self.auto_delete: set[str] = set()
        self.bindings = Bindings()
        self.inboxes: list[Inbox] = []
        self.locks: dict[str, tuple[str, float]] = {}
        self.revocations: list[tuple[int, float, Revocation]] = []
        """Their numbers, and the Unix times when they cease to hold."""
        self.noted = 0
        self._turns = count()

    def declare(self, queue: Queue) -> None:
        self.shelf(queue.name)
        self.bindings.declare(queue)
        if queue.auto_delete:
            self.auto_delete.add(queue.name)

    def shelf(self, queue: str) -> Shelf:
        return self.shelves.setdefault(queue, Shelf())

    def look(self, queue: str) -> Shelf:
        """A queue that exists, or an empty one that is not kept."""
        return self.shelves.get(queue) or Shelf()

    def delete(self, queue: str) -> None:
        self.shelves.pop(queue, None)
        self.bindings.remove(queue)
        self.auto_delete.discard(queue)

    def send(self, message: Message, queues: Iterable[str], rank: int, delayed: bool) -> None:
        """Put ``message`` into ``queues``; with ``delayed`` it waits there until its eta."""
        for queue in queues:
            entry = Entry(msgspec.structs.replace(message, queue=queue), rank, next(self._turns))
            if delayed and message.eta is not None:
                self.delay(entry, message.eta)
            else:
                self.shelf(queue).put(entry)

    def delay(self, entry: Entry, until: float) -> None:
        heapq.heappush(self.shelf(entry.message.queue).delayed, (until, entry.turn, entry))

    def put_last(self, entry: Entry) -> None:
        entry.turn = next(self._turns)
        self.shelf(entry.message.queue).put(entry)

    def give_back(self, hold: Hold, counted: bool) -> None:
        """Return all that ``hold`` has to the places it came from."""
        for entry in hold.entries.values():
            entry.deliveries += counted
            self.shelf(entry.message.queue).put(entry)
        hold.entries.clear()

    def reap(self) -> None:
        """End the leases that have run out."""
        for hold in self.holds:
            if not hold.lost and hold.ends <= time.monotonic():
                self.give_back(hold, counted=True)
                hold.lost = True
                self.changed.notify_all()

    def claim(self, hold: Hold, queues: Sequence[str], limit: int) -> list[tuple[int, Entry]]:
        """Up to ``limit`` entries, most urgent first over all queues, now held under a new tag each."""
        shelves = [self.shelf(queue) for queue in queues]
        for shelf in shelves:
            self._promote(shelf)
        claimed: list[tuple[int, Entry]] = []
        while len(claimed) < limit:
            filled = [shelf for shelf in shelves if shelf.ready]
            if not filled:
                break
            first = min(filled, key=lambda shelf: shelf.ready[0][:2])
            entry = heapq.heappop(first.ready)[2]
            tag = next(self._turns)
            hold.entries[tag] = entry
            claimed.append((tag, entry))
        return claimed

    def next_due(self, queues: Sequence[str]) -> float | None:
        """Unix time when the first delayed message of these queues is due."""
        return min((s.delayed[0][0] for q in queues if (s := self.shelves.get(q)) and s.delayed), default=None)

    def _promote(self, shelf: Shelf) -> None:
        moment = now()
        while shelf.delayed and shelf.delayed[0][0] <= moment:
            self.put_last(heapq.heappop(shelf.delayed)[2])

    def bury(self, entry: Entry, reason: str) -> None:
        message = entry.message
        letter = DeadLetter(new_id(), message.queue, message, reason, now(), entry.deliveries)
        self.shelf(message.queue).dead.append(letter)

    def take_dead(self, queue: str, ids: Collection[str] | None) -> list[DeadLetter]:
        """Remove and return dead letters: all, or these ids."""
        shelf = self.look(queue)
        taken = [letter for letter in shelf.dead if ids is None or letter.id in ids]
        shelf.dead = [letter for letter in shelf.dead if not (ids is None or letter.id in ids)]
        return taken

    def drop_dead_before(self, queue: str, moment: float) -> None:
        shelf = self.look(queue)
        shelf.dead = [letter for letter in shelf.dead if letter.at >= moment]

    def size(self, queue: str) -> QueueSize:
        shelf = self.look(queue)
        held = sum(entry.message.queue == queue for hold in self.holds for entry in hold.entries.values())
        self._promote(shelf)
        return QueueSize(
            ready=len(shelf.ready),
            delayed=len(shelf.delayed),
            held=held,
            parked=len(shelf.parked),
            dead=len(shelf.dead),
        )

    def locate(self, task_id: str) -> Place | None:
        """Where the message of a task stands."""
        if any(entry.message.id == task_id for hold in self.holds for entry in hold.entries.values()):
            return "held"
        for shelf in self.shelves.values():
            self._promote(shelf)
            if any(entry.message.id == task_id for _, _, entry in shelf.ready):
                return "ready"
            if any(entry.message.id == task_id for _, _, entry in shelf.delayed):
                return "delayed"
            if any(entry.message.id == task_id for entry in shelf.parked):
                return "parked"
            if any(letter.message.id == task_id for letter in shelf.dead):
                return "dead"
        return None


_stores: dict[tuple[int, str], Store] = {}


def store_named(name: str) -> Store:
    """The store that all brokers of this name share; a forked child begins with empty ones."""
    key = (os.getpid(), name)
    return _stores.get(key) or _stores.setdefault(key, Store())


def drop_store(name: str) -> None:
    """Forget the store of this name with all that is in it."""
    _stores.pop((os.getpid(), name), None)


def forget_parents_stores() -> None:
    """In a forked child: drop what was copied from the parent."""
    for key in [key for key in _stores if key[0] != os.getpid()]:
        _stores.pop(key, None)
