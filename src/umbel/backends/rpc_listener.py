"""The listening half of ``rpc://``: this process's reply queue and the one connection that consumes it.

Unlike Celery's, the queue outlives its connection, so that results are not lost when that breaks: it is not
auto-delete but deleted on close, expires when it was not consumed for ``_UNUSED`` seconds, and results are acknowledged
(all that came in ``_UNACKNOWLEDGED`` seconds at once; what was not comes again on the next connection, which nobody
notices). Workers never declare it, so they do not see a difference.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Sequence
from typing import Any

from umbel.backends.base import Options
from umbel.brokers.amqp.addresses import Address
from umbel.brokers.amqp.channels import Channel, channel
from umbel.brokers.amqp.frames import DELIVER, Content, ack_frames, properties_of
from umbel.brokers.amqp.session import Session, Sessions
from umbel.brokers.amqp.topology import declare_queue, delete_queue
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


logger = logging.getLogger(__name__)

_UNUSED = 3600.0
_UNACKNOWLEDGED = 0.05


class Listening:
    """The reply queue ``address``. ``on_result(task id, payload)`` and ``on_lost`` are called in the I/O thread."""

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

    def ensure(self, timeout: float | None = None) -> None:
        """Return when the queue exists and is consumed, within ``timeout`` seconds (default: the store's own limit).

        Raises OperationalError, BackendError.
        """
        self._closing.clear()
        try:
            limit = self._options.timeout if timeout is None else timeout
            self._sessions.get(time.monotonic() + limit)
        except BrokerError as error:
            raise BackendError(str(error)) from error

    def _prepare(self, session: Session, timeout: float) -> None:
        listening = Channel(session, timeout)
        unused = min(self._options.expires or _UNUSED, _UNUSED)
        declare_queue(listening, self._address, {"x-expires": int(unused * 1000)})
        receiver = _Receiver(session, listening.number, self._on_result)
        session.run(lambda: session.connection.receive_with(listening.number, receiver))

        def consume(pika: Any, done: Callable[[Any], None]) -> None:
            pika.basic_consume(self._address, _ignore, callback=done)

        listening.call(consume)
        session.on_lost.append(self._on_lost)

    def close(self) -> None:
        """Stop listening and delete the queue."""
        self._closing.set()
        session = self._sessions.current
        if session is not None:
            try:
                with channel(session, self._options.timeout) as opened:
                    delete_queue(opened, self._address)
            except UmbelError as error:
                logger.warning("the reply queue was not deleted; it expires in %.0f s: %s", _UNUSED, error)
        self._sessions.close()

    def _on_lost(self, error: UmbelError) -> None:
        if not self._closing.is_set():
            self._tell_lost()


class _Receiver:
    """Takes the results of one session, each acknowledged with those that come next. I/O thread."""

    def __init__(self, session: Session, channel: int, on_result: Callable[[str, bytes], None]) -> None:
        self._session = session
        self._channel = channel
        self._on_result = on_result
        self._to_acknowledge = 0

    def on_content(self, method: int, content: Content) -> None:
        if method != DELIVER:
            return
        if not self._to_acknowledge:
            self._session.later(_UNACKNOWLEDGED, self._acknowledge)
        self._to_acknowledge = content.tag
        self._on_result(properties_of(content.header).correlation_id, content.body)

    def _acknowledge(self) -> None:
        self._session.send(ack_frames(self._channel, (), self._to_acknowledge))
        self._to_acknowledge = 0

    def on_method(self, method: int, arguments: bytes) -> None:
        """Nothing else is asked for on this channel."""


def _ignore(*_: object) -> None:
    """pika's callback for deliveries, which never reach it."""
