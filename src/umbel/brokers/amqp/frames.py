"""AMQP 0-9-1 frames of the few methods that pass once for each message: publish, deliver, get, ack, confirm.

pika speaks the rest of the protocol. These are written and read here because its objects cost several times as much,
and because its tables round reals to integers.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping, Sequence
from typing import Any

import msgspec
from msgspec import Struct

from umbel.brokers.amqp.tables import decode_table, encode_table
from umbel.errors import DecodeError, EncodeError, MessageTooLarge

DELIVER = 0x003C003C
RETURN = 0x003C0032
GET_OK = 0x003C0047
GET_EMPTY = 0x003C0048
ACK = 0x003C0050
QOS_OK = 0x003C000B
NACK = 0x003C0078

WITH_CONTENT = frozenset({DELIVER, RETURN, GET_OK})
WITHOUT_CONTENT = frozenset({GET_EMPTY, ACK, NACK, QOS_OK})

_PUBLISH_ID = b"\x00\x3c\x00\x28\x00\x00"
_GET_ID = b"\x00\x3c\x00\x46\x00\x00"
_BASIC = b"\x00\x3c\x00\x00"
_END = b"\xce"
_OVERHEAD = 8

_pack_head = struct.Struct(">BHI").pack
_pack_ack = struct.Struct(">BHIIQBB").pack
_tag_at = struct.Struct(">Q").unpack_from
_short_at = struct.Struct(">H").unpack_from

_encode_json = msgspec.json.Encoder().encode


class Properties(Struct):
    """What stands in a content header. ``headers`` is JSON-able, ``expiration`` milliseconds as text."""

    content_type: str = ""
    content_encoding: str = ""
    headers: dict[str, Any] = {}
    delivery_mode: int = 1
    priority: int = 0
    correlation_id: str = ""
    reply_to: str = ""
    expiration: str = ""
    message_id: str = ""

    def json(self) -> bytes:
        """The headers as a JSON object."""
        return _encode_json(self.headers)


class Content(Struct):
    """A message as it came: delivered, got, or returned. ``header`` is the raw content header, see ``properties_of``.

    ``source`` is the consumer tag of a delivery.
    """

    tag: int
    redelivered: bool
    exchange: str
    routing_key: str
    header: bytes
    body: bytes
    source: str = ""


def short(text: str) -> bytes:
    """A short string. Raises EncodeError over 255 bytes."""
    raw = text.encode()
    if len(raw) > 255:
        raise EncodeError(f"{text[:40]!r}… has {len(raw)} bytes; AMQP takes at most 255 for a name or property")
    return bytes((len(raw),)) + raw


def encode_properties(
    headers: Mapping[str, Any],
    *,
    content_type: str,
    content_encoding: str,
    delivery_mode: int = 2,
    priority: int = 0,
    correlation_id: str = "",
    reply_to: str = "",
    expiration: str = "",
    message_id: str = "",
) -> bytes:
    """Flags and values of a content header, in Celery's set: all but the last four are always present."""
    flags = 0xF800
    parts = [
        short(content_type),
        short(content_encoding),
        encode_table(headers),
        bytes((delivery_mode, max(0, min(255, priority)))),
    ]
    for bit, value in ((0x0400, correlation_id), (0x0200, reply_to), (0x0100, expiration), (0x0080, message_id)):
        if value:
            flags |= bit
            parts.append(short(value))
    return b"".join((flags.to_bytes(2, "big"), *parts))


def publish_frames(
    channel: int, exchange: str, routing_key: str, mandatory: bool, properties: bytes, body: bytes, frame_max: int
) -> bytes:
    """All frames of one basic.publish. Raises MessageTooLarge when the headers do not fit into one frame."""
    method = b"".join((_PUBLISH_ID, short(exchange), short(routing_key), b"\x01" if mandatory else b"\x00"))
    header = b"".join((_BASIC, len(body).to_bytes(8, "big"), properties))
    if len(header) > frame_max - _OVERHEAD:
        raise MessageTooLarge(
            f"the headers of the message have {len(header)} bytes, the broker takes {frame_max - _OVERHEAD} at most"
        )
    parts = [_pack_head(1, channel, len(method)), method, _END, _pack_head(2, channel, len(header)), header, _END]
    most = frame_max - _OVERHEAD
    if len(body) <= most:
        if body:
            parts += (_pack_head(3, channel, len(body)), body, _END)
    else:
        for start in range(0, len(body), most):
            piece = body[start : start + most]
            parts += (_pack_head(3, channel, len(piece)), piece, _END)
    return b"".join(parts)


def ack_frame(channel: int, tag: int, multiple: bool = False) -> bytes:
    """basic.ack; ``multiple``: of all up to ``tag``."""
    return _pack_ack(1, channel, 13, ACK, tag, multiple, 0xCE)


def requeue_frame(channel: int, tag: int) -> bytes:
    """basic.nack of one delivery, which puts it back where it was."""
    return _pack_ack(1, channel, 13, NACK, tag, 2, 0xCE)


def get_frame(channel: int, queue: str) -> bytes:
    """basic.get with acknowledgement."""
    method = b"".join((_GET_ID, short(queue), b"\x00"))
    return b"".join((_pack_head(1, channel, len(method)), method, _END))


def _short_string(data: bytes, position: int) -> tuple[str, int]:
    start = position + 1
    end = start + data[position]
    return data[start:end].decode("utf-8", "replace"), end


def read_content(method: int, arguments: bytes, header: bytes, body: bytes) -> Content:
    """A delivered, got or returned message from the arguments of its method and its content."""
    if method == DELIVER:
        source, position = _short_string(arguments, 0)
        tag = _tag_at(arguments, position)[0]
        redelivered = bool(arguments[position + 8])
        exchange, position = _short_string(arguments, position + 9)
        routing_key, _ = _short_string(arguments, position)
        return Content(tag, redelivered, exchange, routing_key, header, body, source)
    if method == GET_OK:
        exchange, position = _short_string(arguments, 9)
        routing_key, _ = _short_string(arguments, position)
        return Content(_tag_at(arguments, 0)[0], bool(arguments[8]), exchange, routing_key, header, body)
    _, position = _short_string(arguments, 2)
    exchange, position = _short_string(arguments, position)
    routing_key, _ = _short_string(arguments, position)
    return Content(0, False, exchange, routing_key, header, body)


def read_confirm(arguments: bytes) -> tuple[int, bool]:
    """Delivery tag, and whether it stands for all before it too."""
    return _tag_at(arguments, 0)[0], bool(arguments[8] & 1)


_LATER_TEXTS = ((0x0400, "correlation_id"), (0x0200, "reply_to"), (0x0100, "expiration"), (0x0080, "message_id"))


def properties_of(header: bytes) -> Properties:
    """The properties in a raw content header. Raises DecodeError when they cannot be read."""
    found = Properties()
    try:
        flags = _short_at(header, 12)[0]
        position = 14
        if flags & 1:
            raise DecodeError("the message has properties that AMQP 0-9-1 does not know")
        for bit, name in ((0x8000, "content_type"), (0x4000, "content_encoding")):
            if flags & bit:
                text, position = _short_string(header, position)
                setattr(found, name, text)
        if flags & 0x2000:
            found.headers, position = decode_table(header, position)
        if flags & 0x1000:
            found.delivery_mode, position = header[position], position + 1
        if flags & 0x0800:
            found.priority, position = header[position], position + 1
        for bit, name in _LATER_TEXTS:
            if flags & bit:
                text, position = _short_string(header, position)
                setattr(found, name, text)
    except (struct.error, IndexError) as error:
        raise DecodeError(f"the message's properties cannot be read: {error}") from error
    return found


def ack_frames(channel: int, single: Sequence[int], up_to: int = 0) -> bytes:
    """Acknowledge all up to ``up_to`` (0: none that way) and each of ``single``."""
    parts = [ack_frame(channel, up_to, multiple=True)] if up_to else []
    parts += [ack_frame(channel, tag) for tag in single]
    return b"".join(parts)
