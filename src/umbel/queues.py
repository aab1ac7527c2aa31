"""What a queue, an exchange and a route to them are, whatever the broker.

The names and meanings are AMQP's, as Celery's documentation uses them; drivers map them to what their system has.
"""

from __future__ import annotations

import uuid
from collections.abc import Mapping
from typing import Any, Literal

from msgspec import Struct, field

ExchangeType = Literal["direct", "topic", "fanout", "headers"]


class Exchange(Struct, frozen=True):
    """Where messages are published to; ``""`` is the default exchange, which routes by queue name."""

    name: str = ""
    type: str = "direct"
    durable: bool = True
    auto_delete: bool = False
    delivery_mode: int = 2
    arguments: Mapping[str, Any] = field(default_factory=dict[str, Any])


class Queue(Struct, frozen=True):
    """A queue and its binding.

    ``expires`` and ``message_ttl`` are seconds. ``exchange`` with an empty name means an exchange of the queue's own
    name (Celery's convention); ``routing_key`` defaults to the queue's name. ``queue_arguments`` are passed on to
    AMQP brokers as they are (``{"x-queue-type": "quorum"}``).
    """

    name: str
    exchange: Exchange = Exchange()
    routing_key: str = ""
    durable: bool = True
    exclusive: bool = False
    auto_delete: bool = False
    expires: float | None = None
    message_ttl: float | None = None
    max_length: int | None = None
    max_length_bytes: int | None = None
    max_priority: int | None = None
    queue_arguments: Mapping[str, Any] = field(default_factory=dict[str, Any])
    binding_arguments: Mapping[str, Any] = field(default_factory=dict[str, Any])
    consumer_arguments: Mapping[str, Any] = field(default_factory=dict[str, Any])

    @property
    def exchange_name(self) -> str:
        return self.exchange.name or self.name

    @property
    def binding_key(self) -> str:
        return self.routing_key or self.name


def worker_direct(node: str) -> Queue:
    """The queue of one worker's own, by its node name (``w1@host``), which it consumes with the setting
    ``worker_direct``."""
    return Queue(name=f"{node}.dq2", exchange=Exchange("C.dq2"), routing_key=node)


def broadcast(name: str) -> Queue:
    """A queue of one worker's own, bound to the fan-out exchange ``name``: every worker gets every message."""
    return Queue(
        name=f"bcast.{uuid.uuid4()}",
        exchange=Exchange(name=name, type="fanout"),
        routing_key=name,
        auto_delete=True,
    )
