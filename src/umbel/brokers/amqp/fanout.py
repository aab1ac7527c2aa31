"""Fan-out: remote control, its replies, and events, on Celery's exchanges with Celery's flags.

Exchanges by name: ``reply.<x>.pidbox`` is direct and transient, ``<x>.pidbox`` fan-out and transient, every other
(``celeryev``) a durable topic exchange. A listener has a queue of its own that goes with its connection. When the
connection breaks, ``receive`` raises once and the next call subscribes anew: what was sent in between is lost.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Any

from umbel.brokers.amqp.channels import Channel
from umbel.brokers.amqp.frames import DELIVER, Content, encode_properties, properties_of
from umbel.brokers.amqp.posts import Post
from umbel.brokers.amqp.session import Session
from umbel.brokers.amqp.topology import bind_queue, declare_exchange, declare_queue
from umbel.brokers.base import Listener, Note
from umbel.errors import OperationalError, UmbelError
from umbel.message import decode_headers, new_id
from umbel.queues import Exchange

_PIDBOX = ".pidbox"
_CONTROL_ARGUMENTS = {"x-message-ttl": 300_000, "x-expires": 10_000}
_EVENT_ARGUMENTS = {"x-message-ttl": 5_000, "x-expires": 60_000}


def fanout_exchange(name: str) -> Exchange:
    """The exchange of that name as Celery declares it."""
    if name.endswith(_PIDBOX):
        return Exchange(name, type="direct" if name.startswith("reply.") else "fanout", durable=False)
    return Exchange(name, type="topic")


def note_post(exchange: str, note: Note) -> Post:
    """The post of a note: commands are persistent, as Celery's; events and replies are not."""
    command = fanout_exchange(exchange).type == "fanout"
    properties = encode_properties(
        dict(note.headers),
        content_type=note.content_type,
        content_encoding=note.content_encoding,
        delivery_mode=2 if command else 1,
    )
    return Post(exchange, note.routing_key, properties, note.body, f"a note for {exchange}", mandatory=False)


class AMQPListener(Listener):
    """See the module's docstring. ``session`` gives the connection that all listeners of a broker share."""

    def __init__(self, session: Callable[[], Session], exchange: str, pattern: str, timeout: float) -> None:
        self._session = session
        self._exchange = fanout_exchange(exchange)
        self._pattern = pattern
        self._timeout = timeout
        self._changed = threading.Condition()
        self._notes: list[Note] = []
        self._channel: Channel | None = None
        self._lost: UmbelError | None = None
        self._closed = False
        self._subscribe()

    def _subscribe(self) -> None:
        session = self._session()
        channel = Channel(session, self._timeout)
        control = self._exchange.name.endswith(_PIDBOX)
        prefix = "umbel" if control else self._exchange.name
        queue = f"{prefix}.{new_id()}" + (f".{self._exchange.name}" if control else "")
        key = "" if self._exchange.type == "fanout" else self._pattern
        arguments = _CONTROL_ARGUMENTS if control else _EVENT_ARGUMENTS
        declare_exchange(channel, self._exchange)
        declare_queue(channel, queue, arguments, durable=False, exclusive=True, auto_delete=True)
        bind_queue(channel, queue, self._exchange.name, key)
        session.on_lost.append(self._on_lost)
        session.run(lambda: session.connection.receive_with(channel.number, self))

        def consume(pika: Any, done: Callable[[Any], None]) -> None:
            pika.basic_consume(queue, _ignore, auto_ack=True, callback=done)

        channel.call(consume)
        self._lost, self._channel = session.error, channel

    def receive(self, timeout: float) -> list[Note]:
        deadline = time.monotonic() + timeout
        if self._channel is None and not self._closed:
            self._subscribe()
        with self._changed:
            while not self._notes and not self._closed and self._lost is None:
                rest = deadline - time.monotonic()
                if rest <= 0:
                    break
                self._changed.wait(rest)
            notes, self._notes = self._notes, []
            if not notes and self._lost is not None and not self._closed:
                error, self._lost, self._channel = self._lost, None, None
                raise OperationalError(f"the subscription to {self._exchange.name} broke: {error}")
            return notes

    def close(self) -> None:
        with self._changed:
            if self._closed:
                return
            self._closed = True
            channel, self._channel = self._channel, None
            self._changed.notify_all()
        if channel is not None:
            session = channel.session
            if self._on_lost in session.on_lost:
                session.on_lost.remove(self._on_lost)
            channel.close()

    # -- I/O thread --

    def on_content(self, method: int, content: Content) -> None:
        if method != DELIVER:
            return
        properties = properties_of(content.header)
        note = Note(
            content.body,
            decode_headers(properties.json()),
            properties.content_type,
            properties.content_encoding,
            content.routing_key,
        )
        with self._changed:
            self._notes.append(note)
            self._changed.notify_all()

    def on_method(self, method: int, arguments: bytes) -> None:
        """Nothing else is asked for on this channel."""

    def _on_lost(self, error: UmbelError) -> None:
        with self._changed:
            self._lost = error
            self._changed.notify_all()


def _ignore(*_: object) -> None:
    """pika's callback for deliveries, which never reach it."""
