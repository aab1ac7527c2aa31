"""Exchanges, queues and bindings: declared exactly as Celery declares them, once in each process.

A queue is bound to the direct exchange of its own name, and messages for it go through the default exchange. Where a
queue exists with other arguments the broker refuses (406); the error says which differ.
"""

from __future__ import annotations

import re
import threading
from collections.abc import Callable, Mapping
from typing import Any

from umbel.brokers.amqp.channels import LOCKED, NOT_FOUND, PRECONDITION_FAILED, Channel, Refused
from umbel.errors import BrokerError
from umbel.queues import Exchange, Queue

QUEUE_TYPE = "x-queue-type"

_DIFFERENCE = re.compile(r"inequivalent arg '([^']+)' for (\w+) '([^']+)'.*?: received (.*?) but current is (.*)")
_WORDS = re.compile(r"the value '(.*?)' of type '.*?'")


def queue_arguments(queue: Queue) -> dict[str, Any]:
    """The arguments of queue.declare: Celery's names and units (milliseconds)."""
    arguments = dict(queue.queue_arguments)
    for name, seconds in (("x-expires", queue.expires), ("x-message-ttl", queue.message_ttl)):
        if seconds is not None:
            arguments[name] = int(seconds * 1000)
    limits = {
        "x-max-length": queue.max_length,
        "x-max-length-bytes": queue.max_length_bytes,
        "x-max-priority": queue.max_priority,
    }
    arguments |= {name: number for name, number in limits.items() if number is not None}
    return arguments


def is_quorum(queue: Queue) -> bool:
    return queue.queue_arguments.get(QUEUE_TYPE) == "quorum"


def declare_exchange(channel: Channel, exchange: Exchange) -> None:
    """Create an exchange if it is missing. Names that begin with ``amq.`` are the broker's own."""
    if exchange.name.startswith("amq."):
        return
    channel.call(
        lambda pika, done: pika.exchange_declare(
            exchange.name,
            exchange.type,
            durable=exchange.durable,
            auto_delete=exchange.auto_delete,
            arguments=dict(exchange.arguments),
            callback=done,
        )
    )


def declare_queue(
    channel: Channel,
    name: str,
    arguments: Mapping[str, Any],
    *,
    durable: bool = True,
    exclusive: bool = False,
    auto_delete: bool = False,
) -> None:
    """Create a queue if it is missing."""
    channel.call(
        lambda pika, done: pika.queue_declare(
            name,
            durable=durable,
            exclusive=exclusive,
            auto_delete=auto_delete,
            arguments=dict(arguments),
            callback=done,
        )
    )


def bind_queue(
    channel: Channel, queue: str, exchange: str, routing_key: str, arguments: Mapping[str, Any] | None = None
) -> None:
    channel.call(lambda pika, done: pika.queue_bind(queue, exchange, routing_key, dict(arguments or {}), callback=done))


def bind_exchange(channel: Channel, destination: str, source: str, routing_key: str) -> None:
    channel.call(lambda pika, done: pika.exchange_bind(destination, source, routing_key, callback=done))


def delete_queue(channel: Channel, name: str) -> None:
    """Delete a queue with its messages; a missing one is no error."""
    channel.call(lambda pika, done: pika.queue_delete(name, callback=done))


def purge_queue(channel: Channel, name: str) -> int:
    """Remove the ready messages of a queue; how many."""

    def purge(pika: Any, done: Callable[[Any], None]) -> None:
        pika.queue_purge(name, callback=done)

    return int(channel.call(purge).method.message_count)


def has_exchange(channel: Channel, name: str) -> bool:
    """Whether there is an exchange of this name. Afterwards the channel may be closed."""
    try:
        channel.call(lambda pika, done: pika.exchange_declare(name, passive=True, callback=done))
    except Refused as refusal:
        if refusal.code == NOT_FOUND:
            return False
        raise
    return True


def ready_count(channel: Channel, name: str) -> int | None:
    """How many messages wait in a queue, None when there is none. Afterwards the channel may be closed."""
    try:
        answer = channel.call(lambda pika, done: pika.queue_declare(name, passive=True, callback=done))
    except Refused as refusal:
        if refusal.code == NOT_FOUND:
            return None
        raise
    return int(answer.method.message_count)


class Topology:
    """What this process has declared. ``channel(deadline)`` opens a channel for a piece of work."""

    def __init__(self, channel: Callable[..., Any], new_queue: Callable[[str], Queue]) -> None:
        self._channel = channel
        self._new_queue = new_queue
        self._guard = threading.Lock()
        self.declared: dict[str, Queue] = {}
        self._quorum: dict[str, bool] = {}

    def declare(self, queue: Queue, deadline: float | None = None) -> None:
        """Create exchange, queue and binding if they are missing, before ``deadline`` (``time.monotonic``).

        Raises BrokerError, naming the difference, when they exist with other arguments.
        """
        with self._channel(deadline) as channel:
            try:
                self._declare(channel, queue)
            except Refused as refusal:
                raise _explained(queue.name, refusal) from refusal
        with self._guard:
            self.declared[queue.name] = queue
            if queue.queue_arguments.get(QUEUE_TYPE):
                self._quorum[queue.name] = is_quorum(queue)

    def _declare(self, channel: Channel, queue: Queue) -> None:
        exchange = queue.exchange if queue.exchange.name else Exchange(queue.name, type=queue.exchange.type)
        declare_exchange(channel, exchange)
        declare_queue(
            channel,
            queue.name,
            queue_arguments(queue),
            durable=queue.durable,
            exclusive=queue.exclusive,
            auto_delete=queue.auto_delete,
        )
        bind_queue(channel, queue.name, exchange.name, self.key(queue), queue.binding_arguments)

    @staticmethod
    def key(queue: Queue) -> str:
        """The binding key: the queue's name unless a key or a fan-out exchange is given."""
        return queue.routing_key if queue.exchange.name and queue.exchange.type == "fanout" else queue.binding_key

    def make(self, name: str) -> None:
        """Create a queue that a message was sent to and that does not exist: as it was declared here, or as new."""
        with self._guard:
            queue = self.declared.get(name)
        self.declare(queue or self._new_queue(name))

    def make_if_missing(self, name: str) -> None:
        """Create a queue unless one of that name exists, whatever its arguments."""
        with self._channel() as channel:
            exists = ready_count(channel, name) is not None
        if not exists:
            self.make(name)

    def is_quorum(self, name: str) -> bool:
        """Whether an existing queue is a quorum queue: as declared here, or found out by a declaration that differs."""
        with self._guard:
            known = self._quorum.get(name)
        if known is None:
            known = self._find_out(name)
            with self._guard:
                self._quorum[name] = known
        return known

    def _find_out(self, name: str) -> bool:
        with self._channel() as channel:
            if ready_count(channel, name) is None:
                return False
            try:
                declare_queue(channel, name, {QUEUE_TYPE: "classic"})
            except Refused as refusal:
                return QUEUE_TYPE in str(refusal) and "'quorum'" in str(refusal)
        return False

    def forget(self, name: str) -> None:
        """A queue was deleted."""
        with self._guard:
            self.declared.pop(name, None)
            self._quorum.pop(name, None)

    def names(self) -> list[str]:
        with self._guard:
            return sorted(self.declared)


def _explained(name: str, refusal: Refused) -> BrokerError:
    if refusal.code == LOCKED:
        return BrokerError(f"queue {name!r} is exclusive to another connection")
    found = _DIFFERENCE.search(str(refusal))
    if refusal.code != PRECONDITION_FAILED or found is None:
        return BrokerError(f"queue {name!r} cannot be declared: {refusal}")
    argument, kind, entity, ours, theirs = found.groups()
    return BrokerError(
        f"{kind} {entity!r} exists with other arguments: {argument} is {_value(argument, theirs)} there and"
        f" {_value(argument, ours)} here;"
        f" declare it as it is, or delete it first"
    )


def _value(argument: str, text: str) -> str:
    if argument == QUEUE_TYPE and text.strip() == "none":
        return "'classic'"
    found = _WORDS.search(text)
    return repr(found[1]) if found else text.strip()
