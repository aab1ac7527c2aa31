"""Rate limits: the gate that lets tasks of a limited kind through as fast as they may run, and puts off the others.

A task that may not run yet goes back to the broker as delayed until the moment that its bucket gave it, so it is never
held and nothing waits behind it. Buckets are the worker's own, as in Celery, or kept for all workers in a store.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Protocol

from msgspec import Struct

from umbel.brokers.base import Action, Delivery, Settlement
from umbel.errors import ConfigurationError, LimitKeyError
from umbel.limits.buckets import Ask, RateStore
from umbel.limits.keys import Key, compile_key, shortened
from umbel.limits.opening import open_rates
from umbel.limits.rates_memory import own_rates
from umbel.limits.spec import parse_rate

if TYPE_CHECKING:
    from umbel.app import Umbel
    from umbel.message import Message
    from umbel.task import Task

SCOPES = ("worker", "cluster")


class Gates(Protocol):
    """The gates of a worker."""

    def add(self, gate: Any) -> None:
        """Put one behind the others."""


class Limit(Struct, frozen=True):
    """The limit of one kind of task. ``interval``: seconds between two of them."""

    interval: float
    store: RateStore
    bucket: str
    key: Key | None = None


class RateLimits:
    """The rate limits of a worker, which join its gates (``worker/gates.py``) once there is one.

    They have to be the last gate: what passes here has taken its token. ``refuse`` makes a settlement of a delivery
    whose key cannot be computed.
    """

    def __init__(self, app: Umbel, gates: Gates, refuse: Callable[[Delivery, Exception], Settlement]) -> None:
        self._app = app
        self._gates = gates
        self._joined = False
        self._refuse = refuse
        self._limits: dict[str, Limit] = {}
        self._own = own_rates()
        self._shared: RateStore | None = None

    def read(self) -> None:
        """Take the limits of all tasks as they are configured.

        Raises ConfigurationError for what is no rate, scope or key, and where no store is there for scope "cluster".
        """
        if self._app.conf.worker_disable_rate_limits:
            return
        limits = {name: self._limit(task, task.rate_limit) for name, task in self._app.tasks.items()}
        self._put({name: limit for name, limit in limits.items() if limit is not None})

    def set_rate_limit(self, task_name: str, value: str | float | None) -> None:
        """Change the limit of one kind of task from now on; None or 0: none. Any thread.

        Tasks that were put off before keep their moments when the limit is raised. Has no effect where
        ``worker_disable_rate_limits`` is set. Raises NotRegistered, ConfigurationError.
        """
        task = self._app.tasks[task_name]
        limit = self._limit(task, value)
        task.rate_limit = value
        if self._app.conf.worker_disable_rate_limits:
            return
        rest = {name: known for name, known in self._limits.items() if name != task_name}
        self._put(rest if limit is None else {**rest, task_name: limit})

    def _put(self, limits: dict[str, Limit]) -> None:
        self._limits = limits
        if limits and not self._joined:
            self._joined = True
            self._gates.add(self)

    def _limit(self, task: Task[..., Any], value: Any) -> Limit | None:
        rate = parse_rate(value, f"rate_limit of task {task.name}")
        scope = task.rate_limit_scope
        if scope not in SCOPES:
            raise ConfigurationError(
                f"rate_limit_scope of task {task.name} is {scope!r}; it must be one of {', '.join(SCOPES)}"
            )
        key = compile_key(task, "rate_limit_key")
        if not rate:
            return None
        return Limit(1 / rate, self._store(task) if scope == "cluster" else self._own, shortened(task.name), key)

    def _store(self, task: Task[..., Any]) -> RateStore:
        if self._shared is None:
            self._shared = open_rates(self._app, f"rate_limit_scope='cluster' of task {task.name}")
        return self._shared

    # -- the gate --

    def judge(self, deliveries: Sequence[Delivery]) -> Mapping[int, Settlement]:
        """See ``Gate.judge``. One round trip for all deliveries that are limited by the store."""
        limits = self._limits
        verdicts: dict[int, Settlement] = {}
        asked: dict[RateStore, tuple[list[Delivery], list[Ask]]] = {}
        for delivery in deliveries:
            limit = limits.get(delivery.message.task)
            if limit is None:
                continue
            try:
                bucket = _bucket(limit, delivery.message)
            except LimitKeyError as error:
                verdicts[id(delivery)] = self._refuse(delivery, error)
                continue
            if bucket is not None:
                several, asks = asked.setdefault(limit.store, ([], []))
                several.append(delivery)
                asks.append(Ask(bucket, delivery.message.id, limit.interval))
        for store, (several, asks) in asked.items():
            for delivery, wait in zip(several, store.take(asks), strict=True):
                if wait > 0:
                    verdicts[id(delivery)] = Settlement(delivery, Action.REQUEUE, delay=wait)
        return verdicts

    def leave(self, messages: Sequence[Message]) -> None:
        """See ``Gate.leave``: a token was taken, whatever became of the task."""


def _bucket(limit: Limit, message: Message) -> str | None:
    """Which bucket counts for this message; None: none, as its run will fail for its arguments anyway."""
    if limit.key is None:
        return limit.bucket
    key = limit.key(message)
    return None if key is None else f"{limit.bucket}:{key}"
