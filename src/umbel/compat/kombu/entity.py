"""``kombu.entity``: queues, exchanges and bindings as a project's configuration names them.

Umbel reads their attributes where it takes queues (``task_queues``, ``queue=``), as it does those of the real kombu.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from umbel.errors import ConfigurationError

TRANSIENT_DELIVERY_MODE, PERSISTENT_DELIVERY_MODE = 1, 2
_MODES = {"transient": TRANSIENT_DELIVERY_MODE, "persistent": PERSISTENT_DELIVERY_MODE}

__all__ = ["PERSISTENT_DELIVERY_MODE", "TRANSIENT_DELIVERY_MODE", "Exchange", "Queue", "binding"]


class Exchange:
    """Where messages are published to."""

    def __init__(
        self,
        name: str = "",
        type: str = "direct",
        channel: Any = None,
        *,
        durable: bool = True,
        auto_delete: bool = False,
        delivery_mode: int | str | None = None,
        arguments: Mapping[str, Any] | None = None,
        **ignored: Any,
    ) -> None:
        """``channel``, ``passive`` and ``no_declare`` are about kombu's connections and have no effect."""
        self.name = name
        self.type = type
        self.durable = durable
        self.auto_delete = auto_delete
        self.delivery_mode = _MODES.get(delivery_mode, 2) if isinstance(delivery_mode, str) else delivery_mode
        self.arguments = dict(arguments or {})

    def __eq__(self, other: object) -> bool:
        return vars(self) == vars(other) if isinstance(other, Exchange) else NotImplemented

    def __hash__(self) -> int:
        return hash((self.name, self.type))

    def __repr__(self) -> str:
        return f"<Exchange {self.name!r} ({self.type})>"


class binding:
    """An exchange and the routing key that a queue is bound to it by."""

    def __init__(
        self,
        exchange: Exchange | str | None = None,
        routing_key: str = "",
        arguments: Mapping[str, Any] | None = None,
        unbind_arguments: Mapping[str, Any] | None = None,
    ) -> None:
        self.exchange = _exchange(exchange)
        self.routing_key = routing_key
        self.arguments = arguments
        self.unbind_arguments = unbind_arguments

    def __repr__(self) -> str:
        return f"<binding: {self.exchange!r} {self.routing_key!r}>"


class Queue:
    """A queue and its binding. Raises ConfigurationError for several bindings, which Umbel's queues do not have."""

    def __init__(
        self,
        name: str = "",
        exchange: Exchange | binding | Sequence[binding] | str | None = None,
        routing_key: str = "",
        channel: Any = None,
        bindings: Sequence[binding] | None = None,
        on_declared: Any = None,
        *,
        durable: bool = True,
        exclusive: bool = False,
        auto_delete: bool = False,
        expires: float | None = None,
        message_ttl: float | None = None,
        max_length: int | None = None,
        max_length_bytes: int | None = None,
        max_priority: int | None = None,
        queue_arguments: Mapping[str, Any] | None = None,
        binding_arguments: Mapping[str, Any] | None = None,
        consumer_arguments: Mapping[str, Any] | None = None,
        alias: str | None = None,
        **ignored: Any,
    ) -> None:
        """Times are seconds. ``channel``, ``no_ack``, ``no_declare`` and ``on_declared`` are about kombu's connections
        and have no effect."""
        bound = list(bindings or ())
        if isinstance(exchange, binding):
            bound.append(exchange)
        elif isinstance(exchange, Sequence) and not isinstance(exchange, str):
            bound += exchange
        if len(bound) > 1:
            raise ConfigurationError(f"queue {name!r} has {len(bound)} bindings; queues of Umbel have one")
        self.name = name
        self.exchange = bound[0].exchange if bound else _exchange(exchange)
        self.routing_key = (bound[0].routing_key if bound else "") or routing_key
        self.alias = alias
        self.durable = durable
        self.exclusive = exclusive
        self.auto_delete = auto_delete
        self.expires = expires
        self.message_ttl = message_ttl
        self.max_length = max_length
        self.max_length_bytes = max_length_bytes
        self.max_priority = max_priority
        self.queue_arguments = dict(queue_arguments or {})
        self.binding_arguments = dict(binding_arguments or {})
        self.consumer_arguments = dict(consumer_arguments or {})

    def __eq__(self, other: object) -> bool:
        return vars(self) == vars(other) if isinstance(other, Queue) else NotImplemented

    def __hash__(self) -> int:
        return hash((self.name, self.exchange, self.routing_key))

    def __repr__(self) -> str:
        return f"<Queue {self.name!r} -> {self.exchange!r} {self.routing_key!r}>"


def _exchange(given: Any) -> Exchange:
    if isinstance(given, Exchange):
        return given
    return Exchange(given if isinstance(given, str) else "")
