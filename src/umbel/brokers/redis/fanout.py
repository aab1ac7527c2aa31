"""Fan-out messages by PUBLISH and PSUBSCRIBE on Celery's channels, and locks.

A fan-out exchange is the channel ``/<db>.<exchange>``, followed by ``/<routing key>`` where there is one. Messages
reach who listens at that moment; Redis keeps nothing.
"""

from __future__ import annotations

import binascii
import threading
import time
from typing import Any

import msgspec
from msgspec import Struct, field

from umbel.brokers.base import Listener, Lock, Note
from umbel.brokers.envelope import encode_envelope
from umbel.brokers.redis.keys import Keys
from umbel.brokers.redis.link import NOTHING, Link, Links, PushNotification, Script, pack
from umbel.brokers.routing import topic_matches
from umbel.errors import BrokerError, OperationalError
from umbel.message import Message, new_id


class _Properties(Struct):
    body_encoding: str | None = None


class _Envelope(Struct):
    body: str = ""
    content_encoding: str | None = field(name="content-encoding", default="utf-8")
    content_type: str | None = field(name="content-type", default="application/json")
    headers: dict[str, Any] = field(default_factory=dict[str, Any])
    properties: _Properties = field(default_factory=_Properties)


_decoder = msgspec.json.Decoder(_Envelope)


def encode_note(exchange: str, note: Note) -> bytes:
    """A note in Celery's envelope."""
    return encode_envelope(
        Message(
            id=new_id(),
            task="",
            queue="",
            headers=msgspec.json.encode(note.headers),
            body=note.body,
            content_type=note.content_type,
            content_encoding=note.content_encoding,
            exchange=exchange,
            routing_key=note.routing_key,
        )
    )


def decode_note(payload: bytes, routing_key: str) -> Note | None:
    """The note in an envelope, or None when it is none."""
    try:
        envelope = _decoder.decode(payload)
        encoded = envelope.properties.body_encoding == "base64"
        body = binascii.a2b_base64(envelope.body) if encoded else envelope.body.encode()
    except (msgspec.MsgspecError, UnicodeError, binascii.Error):
        return None
    return Note(
        body=body,
        headers=envelope.headers,
        content_type=envelope.content_type or "application/json",
        content_encoding=envelope.content_encoding or "utf-8",
        routing_key=routing_key,
    )


class RedisListener(Listener):
    """See :class:`Listener`. Owns one connection; after an error the next ``receive`` subscribes anew."""

    def __init__(self, links: Links, keys: Keys, exchange: str, pattern: str) -> None:
        self._server = links.server
        self._base = keys.fanout(self._server.db, exchange, "")
        self._pattern = pattern
        self._lock = threading.Lock()
        self._closed = False
        self._link: Link | None = self._subscribe()

    def _subscribe(self) -> Link:
        """A connection that is subscribed for sure. Raises OperationalError, BrokerError."""
        link = Link(self._server, self._server.connect_timeout)
        base = _escape(self._base)
        patterns = [f"{base}/{_glob(self._pattern)}"] if self._pattern else []
        if topic_matches(self._pattern, ""):
            patterns.append(base)
        link.send(pack("PSUBSCRIBE", *patterns))
        for _ in patterns:
            reply = link.read()
            if not isinstance(reply, PushNotification):
                link.close()
                raise BrokerError(f"cannot listen to {self._base}: {reply}")
        return link

    def receive(self, timeout: float) -> list[Note]:
        deadline = time.monotonic() + timeout
        with self._lock:
            if self._closed:
                return []
            if self._link is None or self._link.closed:
                self._link = self._subscribe()
            notes: list[Note] = []
            while not self._closed:
                rest = 0.0 if notes else max(0.0, deadline - time.monotonic())
                try:
                    push = self._link.poll(rest)
                except OperationalError:
                    if self._closed:
                        break
                    raise
                if push is NOTHING:
                    if notes or time.monotonic() >= deadline:
                        break
                    continue
                note = self._note(push)
                if note is not None:
                    notes.append(note)
            return notes

    def _note(self, push: Any) -> Note | None:
        if push[0] != b"pmessage":
            return None
        key = push[2].decode()[len(self._base) + 1 :]
        return decode_note(push[3], key) if topic_matches(self._pattern, key) else None

    def close(self) -> None:
        self._closed = True
        if (link := self._link) is not None:
            link.hang_up()
        with self._lock:
            if self._link is not None:
                self._link.close()
                self._link = None


def _glob(pattern: str) -> str:
    """A pattern of Redis that lets pass at least what the topic pattern does."""
    for words in (".#.", ".#", "#.", "#"):
        pattern = pattern.replace(words, "*")
    return _escape(pattern, keep="*")


def _escape(text: str, keep: str = "") -> str:
    return "".join("\\" + char if char in "*?[]\\^" and char not in keep else char for char in text)


_RENEW = Script("""
-- key, token, milliseconds
if redis.call('GET', ARGV[1]) ~= ARGV[2] then return 0 end
return redis.call('PEXPIRE', ARGV[1], ARGV[3])
""")

_RELEASE = Script("""
-- key, token
if redis.call('GET', ARGV[1]) == ARGV[2] then redis.call('DEL', ARGV[1]) end
""")


class RedisLock(Lock):
    """See :class:`Lock`."""

    def __init__(self, links: Links, key: str, ttl: float) -> None:
        self._links = links
        self._key = key
        self._milliseconds = max(1, int(ttl * 1000))
        self._token = new_id()

    def acquire(self) -> bool:
        if self.renew():
            return True
        return self._links.call("SET", self._key, self._token, "NX", "PX", self._milliseconds) is not None

    def renew(self) -> bool:
        return bool(self._links.run(_RENEW, (self._key, self._token, self._milliseconds)))

    def release(self) -> None:
        self._links.run(_RELEASE, (self._key, self._token))
