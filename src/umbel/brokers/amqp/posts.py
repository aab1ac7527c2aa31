"""Posts: messages ready to be published, and messages as they were delivered.

The broker's own way back and forth between :class:`Message` and AMQP. Headers that Umbel adds to a message
(``umbel-…``) and those that RabbitMQ adds on dead-lettering are taken off again when it is read, so that a message
arrives with the headers it was sent with.
"""

from __future__ import annotations

from typing import Any

import msgspec
from msgspec import Struct

from umbel.brokers.amqp.frames import Content, Properties, encode_properties, properties_of
from umbel.errors import DecodeError, InvalidTaskError
from umbel.message import Headers, Message, decode_headers, now, read_message

DELIVERIES = "umbel-deliveries"
REASON = "umbel-reason"
BURIED_AT = "umbel-at"
COUNT = "x-delivery-count"
_DEATHS = "x-death"

_LONGEST_EXPIRATION = 2**32 - 1
_LEFT_TO_WORKERS = 86400.0
_ADDED = frozenset({COUNT, "x-acquired-count", _DEATHS, "CC", "BCC", DELIVERIES, REASON, BURIED_AT})
_ADDED_PREFIXES = ("x-first-death-", "x-last-death-", "x-opt-")

DELAYED_DELIVERY = "celery_delayed_delivery"
_DELAY_WORDS = 28


class Post(Struct, eq=False):
    """One message to be published. ``queue``: made if it is missing, "" for none; ``what`` names it in errors."""

    exchange: str
    routing_key: str
    properties: bytes
    body: bytes
    what: str = ""
    queue: str = ""
    identity: str = ""
    mandatory: bool = True


def post_to(
    message: Message,
    exchange: str,
    routing_key: str,
    *,
    queue: str = "",
    extra: dict[str, Any] | None = None,
    expiration: str | None = None,
    message_id: str = "",
) -> Post:
    """``message`` on its way to an exchange.

    ``expiration`` is milliseconds as text, None: by the message's own ``expires``. Raises EncodeError.
    """
    headers = decode_headers(message.headers)
    if extra:
        headers = {**headers, **extra}
    correlation_id = message.correlation_id or message.id
    properties = encode_properties(
        headers,
        content_type=message.content_type,
        content_encoding=message.content_encoding,
        delivery_mode=message.delivery_mode,
        priority=message.priority,
        correlation_id=correlation_id,
        reply_to=message.reply_to,
        expiration=expiration_of(message) if expiration is None else expiration,
        message_id=message_id,
    )
    what = f"task {message.task or message.id!r}"
    return Post(exchange, routing_key, properties, message.body, what, queue, correlation_id)


def expiration_of(message: Message) -> str:
    """The property ``expiration``: milliseconds from now, "" for never.

    Workers judge by the header ``expires``. RabbitMQ drops without a word, and whoever waits for the task, a chord for
    example, would wait for ever; so it does that a day later than Celery asks it to, if no worker came by. It takes
    2^32-1 (49 days) at most; what expires later has no such property.
    """
    if message.expires is None:
        return ""
    milliseconds = max(0, int((message.expires - now() + _LEFT_TO_WORKERS) * 1000))
    return str(milliseconds) if milliseconds <= _LONGEST_EXPIRATION else ""


class Arrival(Struct, eq=False):
    """A message as read from the broker.

    ``deliveries``: by Umbel's own count and the queue's; ``counted``: by the own count alone. ``reason``, ``at`` and
    ``id`` are those of a dead letter.
    """

    message: Message
    deliveries: int = 0
    fault: str = ""
    counted: int = 0
    reason: str = ""
    at: float = 0.0
    id: str = ""


def arrival(content: Content, queue: str) -> Arrival:
    """Read what came out of ``queue``. Never fails: what cannot be read has ``fault`` set and its raw body."""
    try:
        properties = properties_of(content.header)
    except DecodeError as error:
        return Arrival(_unreadable(content, queue, Properties()), int(content.redelivered), str(error))
    own, properties.headers = _split(properties.headers)
    by_queue, counted, at = own.get(COUNT), own.get(DELIVERIES), own.get(BURIED_AT)
    counted = counted if isinstance(counted, int) else 0
    deliveries = counted + (by_queue if isinstance(by_queue, int) else content.redelivered)
    fault = ""
    try:
        message = _read(content, queue, properties, deliveries > 0)
    except InvalidTaskError as error:
        message, fault = _unreadable(content, queue, properties), str(error)
    if not own and not properties.message_id:
        return Arrival(message, deliveries, fault)
    reason = str(own.get(REASON, ""))
    return Arrival(
        message, deliveries, fault, counted, reason, at if isinstance(at, float) else 0.0, properties.message_id
    )


def _read(content: Content, queue: str, properties: Properties, redelivered: bool) -> Message:
    exchange, routing_key = content.exchange, content.routing_key
    if exchange == DELAYED_DELIVERY:
        exchange, routing_key = "", routing_key.split(".", _DELAY_WORDS)[-1]
    message = read_message(
        properties.json(),
        content.body,
        queue=queue,
        content_type=properties.content_type or "application/json",
        content_encoding=properties.content_encoding or "utf-8",
        priority=properties.priority,
        reply_to=properties.reply_to,
        correlation_id=properties.correlation_id,
        exchange=exchange,
        routing_key=routing_key,
        redelivered=redelivered,
    )
    if properties.delivery_mode != message.delivery_mode:
        return msgspec.structs.replace(message, delivery_mode=properties.delivery_mode)
    return message


def _split(table: dict[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """Headers that were added on the way, and those the message was sent with.

    RabbitMQ sorts headers by name when it adds its own; the protocol's come back in their order.
    """
    if _ADDED.isdisjoint(table):
        return {}, table
    added = [name for name in table if name in _ADDED or name.startswith(_ADDED_PREFIXES)]
    own = {name: table.pop(name) for name in added}
    if _DEATHS not in own and COUNT not in own:
        return own, table
    protocol = {name: table.pop(name) for name in Headers.__struct_fields__ if name in table}
    return own, {**protocol, **table}


def _unreadable(content: Content, queue: str, properties: Properties) -> Message:
    return Message(
        id=properties.correlation_id,
        task="",
        queue=queue,
        headers=properties.json(),
        body=content.body,
        content_type=properties.content_type,
        content_encoding=properties.content_encoding,
        reply_to=properties.reply_to,
        correlation_id=properties.correlation_id,
        routing_key=content.routing_key,
    )
