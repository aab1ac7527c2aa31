"""Concurrency limits: at most so many tasks of a kind, or of a kind and key, run at a time in the whole cluster.

Whoever lets a task through takes a hold for it, which is kept by the worker for as long as the task is here and ends
with its lease when the worker dies. A task for which there is no place goes back to the broker as delayed.
"""

from __future__ import annotations

import itertools
import logging
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from msgspec import Struct

from umbel.brokers.base import Action, Delivery, Settlement
from umbel.errors import ConfigurationError, LimitKeyError, UmbelError
from umbel.limits.holds_store import Hold, HoldStore, Wish
from umbel.limits.keys import Key, compile_key, shortened
from umbel.message import Message, new_id

if TYPE_CHECKING:
    from umbel.app import Umbel
    from umbel.task import Task

logger = logging.getLogger("umbel.worker.limits")


class ConcurrencyLimit(Struct, frozen=True):
    """The limit of one kind of task."""

    most: int
    name: str
    key: Key | None

    def of(self, message: Message) -> str | None:
        """Under which name a message is counted; None: not at all, as its run will fail for its arguments.

        Raises LimitKeyError.
        """
        if self.key is None:
            return shortened(self.name)
        key = self.key(message)
        return None if key is None else shortened(f"{self.name}:{key}")


def concurrency_limit(task: Task[..., Any]) -> ConcurrencyLimit | None:
    """The limit that a task is declared with, None without one. Raises ConfigurationError for a wrong one."""
    most: Any = task.max_concurrency
    if most is None:
        if task.concurrency_key is not None:
            raise ConfigurationError(f"concurrency_key of task {task.name} has no effect without max_concurrency")
        return None
    if isinstance(most, bool) or not isinstance(most, int) or most < 1:
        raise ConfigurationError(f"max_concurrency of task {task.name} must be a whole number of 1 or more: {most!r}")
    return ConcurrencyLimit(most, task.name, compile_key(task, "concurrency_key"))


def concurrency_limits(app: Umbel) -> dict[str, ConcurrencyLimit]:
    """The limits of an application's tasks by task name. Raises ConfigurationError."""
    found = {name: concurrency_limit(task) for name, task in app.tasks.items()}
    return {name: limit for name, limit in found.items() if limit is not None}


class _Held(Struct, frozen=True):
    hold: Hold
    since: float


class HoldGate:
    """See ``worker.gates.Gate``. ``capacity``: how many tasks the worker can run at a time, beyond which it takes no
    holds; ``refuse`` settles a delivery whose key cannot be computed; ``ttl``: seconds that a hold lives unrenewed."""

    def __init__(
        self,
        limits: Mapping[str, ConcurrencyLimit],
        store: HoldStore,
        capacity: Callable[[], int],
        refuse: Callable[[Delivery, Exception], Settlement],
        ttl: float,
    ) -> None:
        self._limits = limits
        self._store = store
        self._capacity = capacity
        self._refuse = refuse
        self._ttl = ttl
        self._owner = new_id()
        self._numbers = itertools.count()
        self._lock = threading.Lock()
        self._held: dict[str, list[_Held]] = {}
        self._taken = 0
        """Holds that are here or asked for."""

    def judge(self, deliveries: Sequence[Delivery]) -> Mapping[int, Settlement]:
        limits = self._limits
        verdicts: dict[int, Settlement] = {}
        asking: list[Delivery] = []
        wishes: list[Wish] = []
        for delivery in deliveries:
            limit = limits.get(delivery.message.task)
            if limit is None:
                continue
            try:
                name = limit.of(delivery.message)
            except LimitKeyError as error:
                verdicts[id(delivery)] = self._refuse(delivery, error)
                continue
            if name is not None:
                token = f"{self._owner}:{next(self._numbers)}"
                asking.append(delivery)
                wishes.append(Wish(name, limit.most, token, delivery.message.id, self._reserve()))
        if wishes:
            self._ask(asking, wishes, verdicts)
        return verdicts

    def _ask(self, asking: Sequence[Delivery], wishes: Sequence[Wish], verdicts: dict[int, Settlement]) -> None:
        reserved = sum(wish.able for wish in wishes)
        since = time.monotonic()
        try:
            pauses = self._store.acquire(wishes, self._ttl)
        except UmbelError:
            with self._lock:
                self._taken -= reserved
            raise
        with self._lock:
            for delivery, wish, pause in zip(asking, wishes, pauses, strict=True):
                if pause:
                    verdicts[id(delivery)] = Settlement(delivery, Action.REQUEUE, delay=pause)
                else:
                    held = _Held(Hold(wish.key, wish.token), since)
                    self._held.setdefault(delivery.message.id, []).append(held)
                    reserved -= 1
            self._taken -= reserved

    def _reserve(self) -> bool:
        with self._lock:
            free = self._taken < self._capacity()
            self._taken += free
            return free

    def leave(self, messages: Sequence[Message]) -> None:
        now = time.monotonic()
        ended: list[tuple[Hold, float]] = []
        with self._lock:
            for message in messages:
                several = self._held.get(message.id)
                if several:
                    first = several.pop(0)
                    ended.append((first.hold, now - first.since))
                    self._taken -= 1
                    if not several:
                        del self._held[message.id]
        if ended:
            self._store.release(ended)

    def renew(self) -> None:
        """Keep all holds. Those that were lost, because this process or the store stood still, are put back, since
        their tasks run; nobody else gets a place until there are fewer than the limit. Raises UmbelError."""
        holds = self._present()
        if not holds:
            return
        lost = set(self._store.renew(holds, self._ttl)).intersection(self._present())
        if lost:
            logger.warning("%d tasks run on although their places under limits were given away meanwhile", len(lost))
            self._store.restore(list(lost), self._ttl)

    def _present(self) -> list[Hold]:
        with self._lock:
            return [held.hold for several in self._held.values() for held in several]
