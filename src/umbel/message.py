"""The task message, the same whatever the broker, and its headers in Celery's task protocol 2.

A client builds a :class:`Message`, a driver carries it, the supervisor reads its head, an executor decodes its body.
Headers are kept as the JSON object they are on the wire, the body as the bytes the serializer made; neither is
encoded again on the way. Format: ``docs/reference/protocol.md``.
"""

from __future__ import annotations

import datetime
import itertools
import os
import socket
from collections.abc import Mapping
from typing import Any

import msgspec
from msgspec import Raw, Struct

from umbel.clock import now as now
from umbel.errors import InvalidTaskError

PROTOCOL_2_EMPTY_EMBED: dict[str, None] = {"callbacks": None, "errbacks": None, "chain": None, "chord": None}


class Message(Struct, frozen=True, kw_only=True, array_like=True, gc=False):
    """One task message.

    ``headers``: JSON object with all application headers. ``body``: serialized (and perhaps compressed)
    ``[args, kwargs, embed]``. ``queue``: the queue it is sent to or came from. ``exchange``/``routing_key`` address
    it where that is more than a queue's name. ``priority``: 0–9. ``eta``, ``expires``: Unix time in seconds, or None.
    ``task`` is empty where the headers name none (protocol 1, or no task message at all).
    """

    id: str
    task: str
    queue: str
    headers: bytes
    body: bytes
    content_type: str = "application/json"
    content_encoding: str = "utf-8"
    priority: int = 0
    eta: float | None = None
    expires: float | None = None
    reply_to: str = ""
    correlation_id: str = ""
    exchange: str = ""
    routing_key: str = ""
    delivery_mode: int = 2
    redelivered: bool = False

    @property
    def size(self) -> int:
        """Bytes of headers and body."""
        return len(self.headers) + len(self.body)


class Headers(Struct, kw_only=True):
    """Application headers of protocol 2, in the order in which Celery writes them."""

    lang: str = "py"
    task: str
    id: str
    shadow: str | None = None
    eta: str | None = None
    expires: str | None = None
    group: str | None = None
    group_index: int | None = None
    retries: int = 0
    timelimit: tuple[float | None, float | None] = (None, None)
    root_id: str | None = None
    parent_id: str | None = None
    argsrepr: str | None = None
    kwargsrepr: str | None = None
    origin: str | None = None
    ignore_result: bool | None = False
    replaced_task_nesting: int = 0
    stamped_headers: list[str] | None = None
    stamps: Mapping[str, Any] = {}


class Head(Struct):
    """The headers that a supervisor decides by; everything else is left undecoded."""

    task: str | None = None
    id: str | None = None
    eta: str | None = None
    expires: str | None = None


_encoder = msgspec.json.Encoder()
_head_decoder = msgspec.json.Decoder(Head, strict=False)
_object_decoder = msgspec.json.Decoder(dict[str, Any])


def encode_headers(headers: Headers, extra: Mapping[str, Any] | None = None) -> bytes:
    """JSON of ``headers``, with the user's ``extra`` headers merged flat into the same object, as Celery does.

    Names in ``extra`` that are protocol headers replace them.
    """
    encoded = _encoder.encode(headers)
    if not extra:
        return encoded
    if not any(name in Headers.__struct_fields__ for name in extra):
        return encoded[:-1] + b"," + _encoder.encode(extra)[1:]
    return _encoder.encode({**_object_decoder.decode(encoded), **extra})


def decode_headers(headers: bytes) -> dict[str, Any]:
    """All application headers of a message as a dict."""
    return _object_decoder.decode(headers)


def read_message(
    headers: bytes | Raw,
    body: bytes,
    *,
    queue: str,
    content_type: str = "application/json",
    content_encoding: str = "utf-8",
    priority: int = 0,
    reply_to: str = "",
    correlation_id: str = "",
    exchange: str = "",
    routing_key: str = "",
    redelivered: bool = False,
) -> Message:
    """A message as it came from a broker. ``task`` is empty when the headers name no task (see ``protocol1``).

    Raises InvalidTaskError when the headers are no JSON object, name a task but no id, or carry a wrong date.
    """
    try:
        head = _head_decoder.decode(headers)
    except (msgspec.MsgspecError, RecursionError) as error:
        raise InvalidTaskError(f"message headers cannot be read: {error}") from error
    if head.task and not head.id:
        raise InvalidTaskError(f"message for task {head.task!r} has no id")
    return Message(
        id=head.id or correlation_id,
        task=head.task or "",
        queue=queue,
        headers=bytes(headers),
        body=body,
        content_type=content_type,
        content_encoding=content_encoding,
        priority=priority,
        eta=parse_moment(head.eta) if head.eta else None,
        expires=parse_moment(head.expires) if head.expires else None,
        reply_to=reply_to,
        correlation_id=correlation_id,
        exchange=exchange,
        routing_key=routing_key,
        redelivered=redelivered,
    )


def parse_moment(text: str) -> float:
    """Unix time in seconds of an ISO 8601 moment; one without offset is read as UTC. Raises InvalidTaskError."""
    try:
        moment = datetime.datetime.fromisoformat(text)
    except ValueError as error:
        raise InvalidTaskError(f"not an ISO 8601 moment: {text!r}") from error
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=datetime.UTC)
    return moment.timestamp()


def format_moment(moment: float) -> str:
    """ISO 8601 with offset, in UTC, of a Unix time in seconds: how ``eta`` and ``expires`` are written."""
    return datetime.datetime.fromtimestamp(moment, datetime.UTC).isoformat()


_ids: list[str] = []


def new_id() -> str:
    """A new task id: a random UUID (version 4) as text."""
    try:
        return _ids.pop()
    except IndexError:
        return _more_ids()


_VERSION = bytes(byte & 0x0F | 0x40 for byte in range(256))
_VARIANT = bytes(byte & 0x3F | 0x80 for byte in range(256))


def _more_ids() -> str:
    """Make 64 ids (RFC 9562, version 4) of one read of the system's random numbers: faster than one by one."""
    random = bytearray(os.urandom(64 * 16))
    random[6::16] = random[6::16].translate(_VERSION)
    random[8::16] = random[8::16].translate(_VARIANT)
    digits = bytearray(random.hex("-", 2), "ascii")
    # of the dashes, one after every fourth digit, those that no UUID has are taken out: the last ones first
    del digits[34::40], digits[29::39], digits[4::38]
    text = digits.decode()
    made = [text[i : i + 36] for i in range(0, len(text), 37)]
    last = made.pop()
    _ids.extend(made)
    return last


_tag_prefix = ""
_tags = itertools.count()


def new_tag() -> str:
    """A name that no other message of any process has, shaped as an id; cheaper, for it may be guessed."""
    global _tag_prefix
    if not _tag_prefix:
        _tag_prefix = new_id()[:24]
    return f"{_tag_prefix}{next(_tags):012x}"


_origin = ""


def origin() -> str:
    """Who sends: ``gen<pid>@<host>``, as Celery's clients name themselves."""
    global _origin
    if not _origin:
        _origin = f"gen{os.getpid()}@{socket.gethostname()}"
    return _origin


def _forget_parent() -> None:
    """In a forked child: neither the parent's unused ids and tags nor its name."""
    global _origin, _tag_prefix
    _ids.clear()
    _origin = _tag_prefix = ""


os.register_at_fork(after_in_child=_forget_parent)
