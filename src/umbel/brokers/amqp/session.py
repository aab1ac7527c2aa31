"""A session: one connection to RabbitMQ and the thread that serves it.

User code never runs in that thread, so heartbeats are sent whatever the rest of the process does. Other threads hand
it work by ``run``; what they wait for comes back in futures. A session that broke stays broken: ``Sessions`` makes the
next one. One object, one connection, one thread.
"""

from __future__ import annotations

import logging
import os
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from typing import Any

from pika.adapters.select_connection import IOLoop
from pika.adapters.utils.connection_workflow import (
    AMQPConnectionWorkflowFailed,
    AMQPConnectorException,
    AMQPConnectorPhaseErrorBase,
)
from pika.exceptions import (
    AMQPConnectionError,
    AMQPHeartbeatTimeout,
    ConnectionClosedByBroker,
    ConnectionClosedByClient,
    IncompatibleProtocolError,
    ProbableAccessDeniedError,
    ProbableAuthenticationError,
    StreamLostError,
)

from umbel.brokers.amqp.addresses import Address
from umbel.brokers.amqp.connection import Connection
from umbel.errors import BrokerError, OperationalError, UmbelError

logger = logging.getLogger("umbel.brokers.amqp")

_REFUSED = frozenset({403, 530})
_CLOSE_TIMEOUT = 2.0


class Session:
    """An open connection. ``error`` is why it broke, None while it works."""

    def __init__(self, address: Address, name: str) -> None:
        self.address = address
        self.name = name
        self.error: UmbelError | None = None
        self.blocked = ""
        self.on_lost: list[Callable[[UmbelError], None]] = []
        self.on_unblocked: list[Callable[[], None]] = []
        self._pid = os.getpid()
        self._work: deque[Callable[[], object]] = deque()
        self._woken = False
        self._decided = threading.Event()
        self._closing = False
        self._loop: Any = None
        self._connection: Connection | None = None
        self._thread = threading.Thread(target=self._serve, name=f"umbel-amqp-{name}", daemon=True)

    # -- any thread --

    @property
    def alive(self) -> bool:
        return self.error is None and self._pid == os.getpid()

    @property
    def heartbeat(self) -> float:
        """Seconds of the heartbeat that was agreed on with the server, 0 for none."""
        return float(self.connection.params.heartbeat or 0)

    def open(self, timeout: float) -> None:
        """Connect within ``timeout`` seconds.

        Raises OperationalError, BrokerError when the server refuses, ConfigurationError when TLS files are unusable.
        """
        self._timeout = max(0.05, timeout)
        self._parameters = self.address.parameters(self._timeout, f"umbel {self.name}")
        self._loop = IOLoop()
        self._thread.start()
        if not self._decided.wait(self._timeout + 1.0):
            self.error = OperationalError(f"{self.address.shown} did not answer within {timeout:.1f} s")
            self._loop.add_callback_threadsafe(self._loop.stop)
        if self.error is not None:
            raise self.error

    def run(self, action: Callable[[], object]) -> None:
        """Have ``action`` called soon in the I/O thread, in the order of calls. It must not block.

        Nothing happens when the session has broken: who waits for something registers with ``on_lost``.
        """
        self._work.append(action)
        if self._woken:
            return
        self._woken = True
        try:
            self._loop.add_callback_threadsafe(self._do_work)
        except (OSError, AttributeError, AssertionError):
            if self.error is None:
                raise

    def send(self, frames: bytes) -> None:
        """Write encoded frames, in the order of calls. Nothing happens when the session has broken."""
        if not self.connection.write(frames):
            self.run(self.connection.flush)

    def open_channel(self, number: int, prepare: Callable[[Any, Callable[..., None]], object], timeout: float) -> None:
        """Open the channel of that number within ``timeout`` seconds. Raises OperationalError.

        ``prepare(channel, done)`` is called in the I/O thread; the channel is ready when it calls ``done``.
        """
        ready = threading.Event()

        def done(*_: object) -> None:
            ready.set()

        def opened(channel: Any) -> None:
            prepare(channel, done)

        self.on_lost.append(done)
        self.run(lambda: self.connection.channel(number, on_open_callback=opened))
        if self.error is None and not ready.wait(timeout):
            raise OperationalError(f"{self.address.shown} opened no channel within {timeout:.1f} s")
        if self.error is not None:
            raise self.error

    def close(self) -> None:
        """End the connection in good order, or cut it when that takes over two seconds. Idempotent."""
        if self._pid != os.getpid() or not self._thread.is_alive():
            return
        self._closing = True
        self.run(self._close_connection)
        if threading.current_thread() is self._thread:
            return
        self._thread.join(_CLOSE_TIMEOUT)
        if self._thread.is_alive():
            self.run(lambda: self.connection.drop(StreamLostError("closing took too long")))
            self._thread.join(_CLOSE_TIMEOUT)

    def drop(self, error: UmbelError) -> None:
        """Give the connection up, because of ``error``. I/O thread."""
        self._lose(error)
        if self._connection is not None and not self._connection.is_closed:
            self._close_connection()

    # -- I/O thread --

    @property
    def connection(self) -> Connection:
        """pika's connection."""
        assert self._connection is not None
        return self._connection

    def later(self, seconds: float, action: Callable[[], None]) -> Any:
        """Call ``action`` after a time; what is returned ends that by ``cancel_later``."""
        return self._loop.call_later(seconds, action)

    def cancel_later(self, timer: Any) -> None:
        self._loop.remove_timeout(timer)

    def _serve(self) -> None:
        try:
            self._connection = Connection(
                self._parameters,
                on_open_callback=self._on_open,
                on_open_error_callback=self._on_open_error,
                on_close_callback=self._on_close,
                custom_ioloop=self._loop,
            )
            self._loop.start()
        except Exception as error:
            logger.exception("the connection to %s failed", self.address.shown)
            self._lose(OperationalError(f"the connection to {self.address.shown} failed: {error!r}"))
        finally:
            self._lose(OperationalError(f"the connection to {self.address.shown} was given up"))
            self._end_transport()
            self._loop.close()

    def _end_transport(self) -> None:
        transport = getattr(self._connection, "_transport", None)
        if transport is not None:
            transport.abort()

    def _do_work(self) -> None:
        self._woken = False
        work = self._work
        for _ in range(len(work)):
            work.popleft()()

    def _on_open(self, connection: Any) -> None:
        connection.add_on_connection_blocked_callback(self._on_blocked)
        connection.add_on_connection_unblocked_callback(self._on_unblocked)
        self._decided.set()

    def _on_blocked(self, connection: Any, method: Any) -> None:
        self.blocked = str(method.method.reason) or "no reason given"
        logger.warning("%s blocks publishers: %s", self.address.shown, self.blocked)

    def _on_unblocked(self, connection: Any, method: Any) -> None:
        self.blocked = ""
        for action in list(self.on_unblocked):
            action()

    def _on_open_error(self, connection: Any, error: BaseException | str) -> None:
        self._lose(connection_error(self.address, error))
        self._loop.stop()

    def _on_close(self, connection: Any, error: BaseException) -> None:
        self._lose(connection_error(self.address, error))
        self._loop.stop()

    def _lose(self, error: UmbelError) -> None:
        if self.error is None:
            self.error = error
            for action in list(self.on_lost):
                action(error)
        self._decided.set()

    def _close_connection(self) -> None:
        connection = self.connection
        if connection.is_closed:
            self._loop.stop()
        elif not connection.is_closing:
            connection.close()


def connection_error(address: Address, error: BaseException | str) -> UmbelError:
    """What an error of pika's connection is at the seam."""
    if isinstance(error, ConnectionClosedByBroker):
        text = f"{address.shown} closed the connection: {error.reply_text}"
        return BrokerError(text) if error.reply_code in _REFUSED else OperationalError(text)
    if isinstance(error, ConnectionClosedByClient):
        return OperationalError(f"the connection to {address.shown} was closed here")
    refused = isinstance(error, (ProbableAuthenticationError, ProbableAccessDeniedError))
    if refused and ConnectionClosedByBroker.__name__ in str(error):
        return BrokerError(f"{address.shown} refuses the login or its virtual host: {_reason(error)}")
    if isinstance(error, AMQPHeartbeatTimeout):
        return OperationalError(f"{address.shown} has not been heard for two heartbeats; the connection was given up")
    if isinstance(error, IncompatibleProtocolError) and address.tls is not None:
        text = f"no connection to {address.shown}: {_reason(error)} (does it accept the client's certificate?)"
        return OperationalError(text)
    if isinstance(error, (AMQPConnectionError, AMQPConnectorException)):
        return OperationalError(f"no connection to {address.shown}: {_reason(error)}")
    return OperationalError(f"the connection to {address.shown} broke: {error}")


def _cause(error: BaseException) -> BaseException | None:
    """What pika wrapped up in ``error``."""
    if isinstance(error, AMQPConnectionWorkflowFailed):
        return error.exceptions[-1]
    if isinstance(error, AMQPConnectorPhaseErrorBase):
        return error.exception
    return error.args[0] if error.args and isinstance(error.args[0], BaseException) else None


def _reason(error: BaseException) -> str:
    inner = error
    while (cause := _cause(inner)) is not None:
        inner = cause
    text = str(inner)
    return text if text and text != "()" else repr(inner)


class Sessions:
    """The present session for one purpose, made anew when it broke. Safe for threads.

    ``prepare`` is called with each new session before anyone else has it.
    """

    def __init__(
        self,
        servers: Sequence[Address],
        name: str,
        connect_timeout: float,
        prepare: Callable[[Session, float], None] | None = None,
    ) -> None:
        self._servers = list(servers)
        self._name = name
        self._connect_timeout = connect_timeout
        self._prepare = prepare
        self._opening = threading.Lock()
        self._session: Session | None = None

    @property
    def current(self) -> Session | None:
        """The session, if it works."""
        session = self._session
        return session if session is not None and session.alive else None

    def get(self, deadline: float | None = None) -> Session:
        """A working session; tries each server once, until ``deadline`` (``time.monotonic``) at most.

        Raises OperationalError when none can be reached, BrokerError when one refuses.
        """
        if session := self.current:
            return session
        rest = self._connect_timeout * len(self._servers) if deadline is None else deadline - time.monotonic()
        if not self._opening.acquire(timeout=max(0.0, rest)):
            raise OperationalError(f"no connection to {self._servers[0].shown} within {rest:.1f} s")
        try:
            if session := self.current:
                return session
            return self._open(deadline)
        finally:
            self._opening.release()

    def _open(self, deadline: float | None) -> Session:
        failure: UmbelError | None = None
        for _ in range(len(self._servers)):
            rest = float("inf") if deadline is None else deadline - time.monotonic()
            if rest <= 0 and failure is not None:
                break
            session = Session(self._servers[0], self._name)
            try:
                session.open(min(self._connect_timeout, max(rest, 0.05)))
                if self._prepare is not None:
                    self._prepare(session, min(self._connect_timeout, max(rest, 0.05)))
            except OperationalError as error:
                session.close()
                failure = error
                self._servers.append(self._servers.pop(0))
            except UmbelError:
                session.close()
                raise
            else:
                self._session = session
                return session
        assert failure is not None
        raise failure

    def close(self) -> None:
        """Close the present session; ``get`` makes a new one."""
        with self._opening:
            session, self._session = self._session, None
        if session is not None:
            session.close()
