"""The listening half of ``rpc://``: this process's reply queue and the one connection that consumes it."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from typing import Any

from umbel.backends.base import Options
from umbel.brokers.amqp.addresses import Address
from umbel.brokers.amqp.channels import Channel
from umbel.brokers.amqp.frames import DELIVER, Content, properties_of
from umbel.brokers.amqp.session import Session, Sessions
from umbel.brokers.amqp.topology import declare_queue
from umbel.brokers.base import Options as BrokerOptions
from umbel.errors import BackendError, BrokerError, ConfigurationError, UmbelError


def broker_url(url: str, options: Options) -> str:
    """The broker on which results travel: the one that ``url`` names, else the application's.

    Raises ConfigurationError when that is no RabbitMQ.
    """
    rest = url.partition("://")[2]
    if rest.strip("/"):
        return ";".join(
            "amqp" + part.removeprefix("rpc") if part.startswith("rpc") else part for part in url.split(";")
        )
    broker = str(options.transport.get("broker_url") or "amqp://")
    if not broker.startswith(("amqp", "pyamqp")):
        raise ConfigurationError(
            "result_backend is rpc://, but the broker is not RabbitMQ: results can only be sent over amqp://"
        )
    return broker


def broker_options(options: Options) -> BrokerOptions:
    """The broker driver's options: the result store's own TLS options, else the application's broker's."""
    ssl = options.ssl if options.ssl is not None else options.transport.get("broker_use_ssl")
    return BrokerOptions(
        publish_timeout=options.timeout,
        connect_timeout=options.connect_timeout,
        ssl=ssl,
        transport=options.transport,
    )


class Listening:
    """The reply queue ``address``, consumed while somebody needs it. ``on_result(task id, payload)`` and ``on_lost``
    are called in the I/O thread."""

    def __init__(
        self,
        servers: Sequence[Address],
        options: Options,
        address: str,
        *,
        on_result: Callable[[str, bytes], None],
        on_lost: Callable[[], None],
    ) -> None:
        self._options = options
        self._address = address
        self._on_result = on_result
        self._tell_lost = on_lost
        self._closing = threading.Event()
        self._sessions = Sessions(servers, "results", options.connect_timeout, self._prepare)

    def ensure(self) -> None:
        """Return when the queue exists and is consumed. Raises OperationalError, BackendError."""
        self._closing.clear()
        try:
            self._sessions.get(time.monotonic() + self._options.timeout)
        except BrokerError as error:
            raise BackendError(str(error)) from error

    def _prepare(self, session: Session, timeout: float) -> None:
        channel = Channel(session, timeout)
        expires = {"x-expires": int(self._options.expires * 1000)} if self._options.expires else {}
        declare_queue(channel, self._address, expires, auto_delete=True)
        session.run(lambda: session.connection.receive_with(channel.number, self))

        def consume(pika: Any, done: Callable[[Any], None]) -> None:
            pika.basic_consume(self._address, _ignore, auto_ack=True, callback=done)

        channel.call(consume)
        session.on_lost.append(self._on_lost)

    def close(self) -> None:
        """Stop listening; the broker deletes the queue."""
        self._closing.set()
        self._sessions.close()

    # -- I/O thread --

    def on_content(self, method: int, content: Content) -> None:
        if method == DELIVER:
            self._on_result(properties_of(content.header).correlation_id, content.body)

    def on_method(self, method: int, arguments: bytes) -> None:
        """Nothing else is asked for on this channel."""

    def _on_lost(self, error: UmbelError) -> None:
        if not self._closing.is_set():
            self._tell_lost()


def _ignore(*_: object) -> None:
    """pika's callback for deliveries, which never reach it."""
