"""The envelope in which Celery's non-AMQP transports carry a message: one JSON object.

``{"body": base64, "content-encoding", "content-type", "headers": {…}, "properties": {…}}``; see section 4.1 of the
protocol notes. Used by every driver whose system stores plain strings and is shared with Celery.
"""

from __future__ import annotations

import binascii
from typing import Any

import msgspec
from msgspec import Raw, Struct, field

from umbel.errors import InvalidTaskError
from umbel.message import Message, new_tag, now, read_message


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
    expiration: str | msgspec.UnsetType = msgspec.UNSET


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
    expiration: Any = msgspec.UNSET
    if message.expires is not None:
        expiration = str(max(0, int((message.expires - now()) * 1000)))
    return _encoder.encode(
        _OutEnvelope(
            body=binascii.b2a_base64(message.body, newline=False).decode("ascii"),
            content_encoding=message.content_encoding,
            content_type=message.content_type,
            headers=Raw(message.headers),
            properties=_OutProperties(
                correlation_id=message.correlation_id or message.id,
                reply_to=message.reply_to,
                delivery_mode=message.delivery_mode,
                delivery_info=_OutInfo(message.exchange, message.routing_key or message.queue),
                priority=message.priority,
                body_encoding="base64",
                delivery_tag=new_tag(),
                expiration=expiration,
            ),
        )
    )


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
