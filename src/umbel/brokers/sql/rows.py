"""A message as a row of the table ``messages``, and back."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from umbel.brokers.base import DeadLetter, Delivery, Options
from umbel.brokers.sql.tables import DELAYED, READY
from umbel.errors import InvalidTaskError
from umbel.message import Message, new_id, now, read_message

WRITTEN = (
    "queue",
    "urgency",
    "priority",
    "state",
    "due",
    "task",
    "headers",
    "body",
    "content_type",
    "content_encoding",
    "reply_to",
    "correlation_id",
    "exchange",
    "routing_key",
)
"""Columns that ``row_of`` fills, in its order."""

READ = (
    "id",
    "queue",
    "urgency",
    "priority",
    "deliveries",
    "headers",
    "body",
    "content_type",
    "content_encoding",
    "reply_to",
    "correlation_id",
    "exchange",
    "routing_key",
)
"""Columns that ``message_of`` and ``deliveries_of`` take, in this order."""

Row = Sequence[Any]
Tag = tuple[int, int, int]
"""The hold on a message: the consumer's lease, the row, and the number of the claim under that lease."""


def row_of(message: Message, queue: str, options: Options) -> tuple[Any, ...]:
    """The values of ``WRITTEN`` for a message that goes to ``queue``."""
    priority = message.priority
    due = message.eta
    delayed = due is not None and not options.mixed_fleet and due > now()
    return (
        queue,
        priority if options.lowest_priority_first else -priority,
        priority,
        DELAYED if delayed else READY,
        due if delayed else 0.0,
        message.task,
        message.headers,
        message.body,
        message.content_type,
        message.content_encoding,
        message.reply_to,
        message.correlation_id,
        message.exchange,
        message.routing_key,
    )


def message_of(row: Row) -> Message:
    """The message in a row of ``READ``. Raises InvalidTaskError when its headers cannot be read."""
    return read_message(
        row[5],
        row[6],
        queue=row[1],
        priority=row[3],
        content_type=row[7],
        content_encoding=row[8],
        reply_to=row[9],
        correlation_id=row[10],
        exchange=row[11],
        routing_key=row[12],
        redelivered=row[4] > 0,
    )


def readable(row: Row) -> tuple[Message, str]:
    """The message in a row and "", or what there is of it and why it cannot be read."""
    try:
        return message_of(row), ""
    except InvalidTaskError as error:
        broken = Message(
            id=row[10] or new_id(),
            task="",
            queue=row[1],
            headers=b"{}",
            body=row[6],
            content_type=row[7],
            content_encoding=row[8],
            priority=row[3],
            reply_to=row[9],
            correlation_id=row[10],
        )
        return broken, str(error)


def deliveries_of(rows: Sequence[Row], lease: int, claim: int) -> list[Delivery]:
    """Deliveries of claimed rows, most urgent first and in order of arrival."""
    deliveries: list[Delivery] = []
    for row in sorted(rows, key=place):
        message, fault = readable(row)
        deliveries.append(Delivery((lease, row[0], claim), row[1], message, row[4], fault))
    return deliveries


def place(row: Row) -> tuple[int, int]:
    """Where a row stands in its queue."""
    return row[2], row[0]


def dead_letter_of(row: Row, reason: str, moment: float) -> DeadLetter:
    """The dead letter in a row that died at ``moment`` (Unix seconds)."""
    return DeadLetter(str(row[0]), row[1], readable(row)[0], reason, moment, row[4])
