"""The envelope in which Celery's non-AMQP transports carry a message: one JSON object.

``{"body": base64, "content-encoding", "content-type", "headers": {…}, "properties": {…}}``; see section 4.1 of the
protocol notes. Used by every driver whose system stores plain strings and is shared with Celery.
"""

from __future__ import annotations

import binascii
import functools

import msgspec
from msgspec import Raw, Struct, field

from umbel.errors import InvalidTaskError
from umbel.message import Message, new_id, new_tag, now, read_message


class _DeliveryInfo(Struct, omit_defaults=True):
    exchange: str | None = ""
    routing_key: str | None = ""
    redelivered: bool = False


class _OutInfo(Struct):
    exchange: str
    routing_key: str


class _InProperties(Struct):
    correlation_id: str | None = ""
    reply_to: str | None = ""
    delivery_info: _DeliveryInfo = field(default_factory=_DeliveryInfo)
    priority: int | None = 0
    body_encoding: str | None = None


class _InEnvelope(Struct):
    body: str = ""
    content_encoding: str | None = field(name="content-encoding", default="utf-8")
    content_type: str | None = field(name="content-type", default="application/json")
    headers: Raw = field(default_factory=lambda: Raw(b"{}"))
    properties: _InProperties = field(default_factory=_InProperties)


class _OutProperties(Struct):
    correlation_id: str
    reply_to: str
    delivery_mode: int
    delivery_info: _OutInfo
    priority: int
    body_encoding: str
    delivery_tag: str


class _OutEnvelope(Struct):
    body: str
    content_encoding: str = field(name="content-encoding")
    content_type: str = field(name="content-type")
    headers: Raw
    properties: _OutProperties


_decoder = msgspec.json.Decoder(_InEnvelope)
_encoder = msgspec.json.Encoder()


def encode_envelope(message: Message) -> bytes:
    """The envelope of ``message``, readable by Celery's workers."""
    to_body, to_headers, to_correlation, to_tag, rest = _frame(
        message.content_encoding,
        message.content_type,
        message.reply_to,
        message.delivery_mode,
        message.exchange,
        message.routing_key or message.queue,
        message.priority,
    )
    if message.expires is not None:
        rest = b',"expiration":"%d"}}' % max(0, int((message.expires - now()) * 1000))
    return b"".join(
        (
            *(to_body, b'"', binascii.b2a_base64(message.body, newline=False), b'"', to_headers, message.headers),
            *(to_correlation, _encoder.encode(message.correlation_id or message.id)),
            *(to_tag, b'"', new_tag().encode(), b'"', rest),
        )
    )


@functools.lru_cache(maxsize=1000)
def _frame(
    content_encoding: str,
    content_type: str,
    reply_to: str,
    delivery_mode: int,
    exchange: str,
    routing_key: str,
    priority: int,
) -> tuple[bytes, ...]:
    """What messages to one place have in common: all of the envelope but body, headers, correlation id and tag."""
    marks = [new_id() for _ in range(4)]
    places = [_encoder.encode(mark) for mark in marks]
    rest = _encoder.encode(
        _OutEnvelope(
            body=marks[0],
            content_encoding=content_encoding,
            content_type=content_type,
            headers=Raw(places[1]),
            properties=_OutProperties(
                correlation_id=marks[2],
                reply_to=reply_to,
                delivery_mode=delivery_mode,
                delivery_info=_OutInfo(exchange, routing_key),
                priority=priority,
                body_encoding="base64",
                delivery_tag=marks[3],
            ),
        )
    )
    parts: list[bytes] = []
    for place in places:
        part, rest = rest.split(place, 1)
        parts.append(part)
    return (*parts, rest)


def decode_envelope(data: bytes, queue: str) -> Message:
    """The message in an envelope that was taken from ``queue``. Raises InvalidTaskError when it is none."""
    try:
        envelope = _decoder.decode(data)
        properties = envelope.properties
        if properties.body_encoding == "base64":
            body = binascii.a2b_base64(envelope.body)
        else:
            body = envelope.body.encode("utf-8", "surrogatepass")
    except (msgspec.MsgspecError, UnicodeDecodeError, binascii.Error, RecursionError) as error:
        raise InvalidTaskError(f"not a message envelope: {error}") from error
    info = properties.delivery_info
    return read_message(
        envelope.headers,
        body,
        queue=queue,
        content_type=envelope.content_type or "application/json",
        content_encoding=envelope.content_encoding or "utf-8",
        priority=properties.priority or 0,
        reply_to=properties.reply_to or "",
        correlation_id=properties.correlation_id or "",
        exchange=info.exchange or "",
        routing_key=info.routing_key or queue,
        redelivered=info.redelivered,
    )
