"""What receivers of the publish signals see of a call, and what of it they may change. Called only if there are any."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

import msgspec
from msgspec import Struct

from umbel.codecs import loads
from umbel.errors import InvalidTaskError, UmbelError
from umbel.message import Headers, Message, decode_headers, parse_moment
from umbel.signals import after_task_publish, before_task_publish, task_sent

if TYPE_CHECKING:
    from umbel.addressing import Address

log = logging.getLogger("umbel.signals")

_FIELDS = Headers.__struct_fields__


class Draft(Struct):
    """A message that is not yet serialized; ``parts`` are args, kwargs and embed. ``extra``: the user's headers."""

    headers: Headers
    extra: dict[str, Any]
    parts: tuple[Any, Any, Any]
    eta: float | None
    expires: float | None
    priority: int
    reply_to: str
    correlation_id: str
    delivery_mode: int


def before_publish(draft: Draft, address: Address, options: Mapping[str, Any]) -> Draft:
    """Send ``before_task_publish``; the draft as its receivers left it.

    Raises InvalidTaskError when a protocol header was given a value that it cannot have.
    """
    headers: dict[str, Any] = {name: getattr(draft.headers, name) for name in _FIELDS} | draft.extra
    properties = {
        "correlation_id": draft.correlation_id,
        "reply_to": draft.reply_to,
        "priority": draft.priority,
        "delivery_mode": draft.delivery_mode,
    }
    args, kwargs, embed = draft.parts
    body = (list(args), dict(kwargs), dict(embed))
    before_task_publish.send(
        sender=draft.headers.task,
        body=body,
        exchange=address.exchange,
        routing_key=address.routing_key or address.queue.name,
        headers=headers,
        properties=properties,
        declare=[address.queue],
        retry_policy=dict(options.get("retry_policy") or {}),
    )
    try:
        changed = msgspec.convert({name: headers[name] for name in _FIELDS if name in headers}, Headers)
        given = msgspec.convert(properties, _Properties)
    except msgspec.ValidationError as error:
        raise InvalidTaskError(f"a receiver of before_task_publish made the message invalid: {error}") from error
    return Draft(
        headers=changed,
        extra={name: value for name, value in headers.items() if name not in _FIELDS},
        parts=body,
        eta=_moment(changed.eta, draft.headers.eta, draft.eta),
        expires=_moment(changed.expires, draft.headers.expires, draft.expires),
        priority=given.priority,
        reply_to=given.reply_to,
        correlation_id=given.correlation_id or changed.id,
        delivery_mode=given.delivery_mode,
    )


class _Properties(Struct):
    correlation_id: str | None = None
    reply_to: str = ""
    priority: int = 0
    delivery_mode: int = 2


def _moment(written: str | None, before: str | None, known: float | None) -> float | None:
    if written == before:
        return known
    return parse_moment(written) if written else None


def after_publish(messages: Iterable[Message]) -> None:
    """Send ``after_task_publish`` and ``task_sent`` for messages of tasks that the broker has."""
    for message in messages:
        headers = decode_headers(message.headers)
        own = frozenset({message.content_type})
        try:
            body = loads(message.body, message.content_type, message.content_encoding, own, headers.get("compression"))
        except UmbelError:
            log.exception("the body of a sent message cannot be shown: task=%s id=%s", message.task, message.id)
            continue
        if after_task_publish.receivers:
            after_task_publish.send(
                sender=message.task,
                headers=headers,
                body=tuple(body),
                exchange=message.exchange,
                routing_key=message.routing_key or message.queue,
            )
        if task_sent.receivers:
            task_sent.send(
                sender=message.task,
                task_id=message.id,
                task=message.task,
                args=body[0],
                kwargs=body[1],
                eta=headers.get("eta"),
                taskset=headers.get("group"),
            )
