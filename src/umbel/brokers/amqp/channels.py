"""A channel for calls that wait for their answer: declarations, counting, purging, looking into queues.

Channels are opened for one piece of work and closed after it, because the broker closes a channel with every refusal.
"""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Callable, Generator, Iterator, Sequence
from concurrent.futures import Future
from concurrent.futures import TimeoutError as FutureTimeout
from contextlib import contextmanager
from typing import Any

from pika import frame
from pika.exceptions import ChannelClosedByBroker

from umbel.brokers.amqp.frames import GET_EMPTY, GET_OK, Content, ack_frames, get_frame, requeue_frame
from umbel.brokers.amqp.session import Session
from umbel.errors import BrokerError, OperationalError, UmbelError

NOT_FOUND, LOCKED, PRECONDITION_FAILED = 404, 405, 406

_GETS_AT_ONCE = 200


class Refused(BrokerError):
    """The broker closed a channel. ``code`` is AMQP's reply code."""

    def __init__(self, code: int, text: str) -> None:
        super().__init__(text)
        self.code = code


class Channel:
    """An open channel of ``session``. Belongs to one thread at a time.

    Every call ends within ``timeout`` seconds, and at ``deadline`` (``time.monotonic``) if that comes before.
    """

    def __init__(self, session: Session, timeout: float, deadline: float | None = None) -> None:
        self.session = session
        self._timeout = timeout
        self._deadline = math.inf if deadline is None else deadline
        self._waiting: Future[Any] | None = None
        self._guard = threading.Lock()
        self._failure: UmbelError | None = None
        self._pika: Any = None
        self._got: list[Content] = []
        self._expected = 0
        self._closing = False
        session.on_lost.append(self._fail)
        try:
            self._pika = self._ask(lambda done: session.connection.channel(on_open_callback=done))
        except UmbelError:
            self._forget()
            raise
        self._pika.add_on_close_callback(self._on_closed)
        self.number: int = self._pika.channel_number

    def call(self, ask: Callable[[Any, Callable[[Any], None]], Any]) -> Any:
        """The answer to a method of pika's channel: ``ask(channel, callback)`` sends it.

        Raises Refused when the broker closes the channel over it, OperationalError.
        """
        return self._ask(lambda done: ask(self._pika, done))

    def send(self, methods: Sequence[Any]) -> None:
        """Send methods of ``pika.spec`` that ask for no answer; the next ``call`` shows whether they were refused."""
        frames = b"".join(frame.Method(self.number, method).marshal() for method in methods)
        self.session.send(frames)

    def take(self, queue: str, limit: int) -> Iterator[Content]:
        """Up to ``limit`` messages of a queue, which are held until they are settled or the channel is closed.

        Ends early when the queue is empty. The requests are sent many at a time.
        """
        self.session.run(lambda: self.session.connection.receive_with(self.number, self))
        left = limit
        while left > 0:
            count = min(left, _GETS_AT_ONCE)
            got = self._get(queue, count)
            yield from got
            left -= count
            if len(got) < count:
                return

    def acknowledge(self, contents: list[Content]) -> None:
        """Remove taken messages."""
        self._send(ack_frames(self.number, [content.tag for content in contents]))

    def put_back(self, contents: list[Content]) -> None:
        """Give taken messages back to where they were."""
        self._send(b"".join(requeue_frame(self.number, content.tag) for content in contents))

    def _send(self, frames: bytes) -> None:
        if frames:
            self.session.send(frames)

    def close(self) -> None:
        """Close it; what was taken and not settled goes back. Waits until the broker has done so."""
        try:
            if self._failure is None and self.session.alive:
                self._ask(self._close)
        finally:
            self._forget()

    def _close(self, done: Callable[[Any], None]) -> None:
        self._closing = True
        self._pika.close()

    def _get(self, queue: str, count: int) -> list[Content]:
        def send(done: Callable[[Any], None]) -> None:
            self._got, self._expected = [], count
            self.session.send(get_frame(self.number, queue) * count)

        return self._ask(send)

    # -- I/O thread --

    def on_content(self, method: int, content: Content) -> None:
        if method == GET_OK:
            self._got.append(content)
            self._on_answer()

    def on_method(self, method: int, arguments: bytes) -> None:
        if method == GET_EMPTY:
            self._on_answer()

    def _on_answer(self) -> None:
        self._expected -= 1
        if not self._expected:
            self._answer(self._got)

    def _on_closed(self, channel: Any, reason: BaseException) -> None:
        self.session.connection.receive_with(self.number, None)
        if self._closing:
            self._answer(None)
        elif isinstance(reason, ChannelClosedByBroker):
            self._fail(Refused(reason.reply_code, str(reason.reply_text)))
        else:
            self._fail(OperationalError(f"the channel was closed: {reason}"))

    # -- waiting --

    def _ask(self, send: Callable[[Callable[[Any], None]], Any]) -> Any:
        future: Future[Any] = Future()
        with self._guard:
            self._waiting = future
        failure = self._failure or self.session.error
        if failure is not None:
            raise failure
        self.session.run(lambda: send(self._answer))
        limit = max(0.0, min(self._timeout, self._deadline - time.monotonic()))
        try:
            return future.result(limit)
        except FutureTimeout:
            reason = f" (it blocks publishers: {self.session.blocked})" if self.session.blocked else ""
            raise OperationalError(f"{self.session.address.shown} did not answer in time{reason}") from None

    def _answer(self, value: Any) -> None:
        with self._guard:
            future, self._waiting = self._waiting, None
        if future is not None:
            future.set_result(value)

    def _fail(self, error: UmbelError) -> None:
        self._failure = self._failure or error
        with self._guard:
            future, self._waiting = self._waiting, None
        if future is not None:
            future.set_exception(error)

    def _forget(self) -> None:
        if self._fail in self.session.on_lost:
            self.session.on_lost.remove(self._fail)


@contextmanager
def channel(session: Session, timeout: float, deadline: float | None = None) -> Generator[Channel]:
    """A channel for the length of a block."""
    opened = Channel(session, timeout, deadline)
    try:
        yield opened
    finally:
        opened.close()
