"""Intake: what a consumer's connection has been given by the broker and what is still held, and the flow control.

RabbitMQ pushes; the seam asks. What may be pushed is bounded by prefetch counts, which AMQP fixes when a consumer
begins (for quorum queues, and on RabbitMQ 4 for all). So the *credit*, how many messages each queue may still push, is
raised by further consumers on the same channel and lowered by cancelling all of them; what they delivered stays held.
Acknowledging gives back the credit of what is acknowledged, so a worker with a steady window needs neither.

* An ask for a few messages (long tasks) raises the credit to exactly that: nothing is pushed that nobody asked for.
  With several queues each may push that many; the surplus waits in the buffer.
* An ask for ``_MANY`` or more (short tasks) raises it by a quarter of the window more, so that few raises are needed.
* When nobody asks for ``_QUIET`` seconds, an ask brought nothing, or few messages are settled and none asked for,
  credit ends. What was pushed all the same and nobody took for ``_KEEP`` seconds is ``surplus``, to be given back.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from pika import frame, spec

from umbel.brokers.amqp.frames import DELIVER, QOS_OK, Content, ack_frames, requeue_frame
from umbel.brokers.amqp.session import Session
from umbel.errors import OperationalError, UmbelError

CHANNEL = 1

_MANY = 16
_MOST = 65_535
_QUIET = 0.05
_KEEP = 1.0
_MOST_CONSUMERS = 32
_LONGEST_WATCH = 1.0
_UNFITTED = 0.25


class Intake:
    """One connection's deliveries. The I/O thread and the consumer's three threads meet here.

    ``changed`` and ``answered`` have one lock, which guards it; they tell of deliveries and of answers, and both of a
    failure: who waits for the one is not woken for the other.
    """

    def __init__(
        self,
        session: Session,
        queues: Mapping[str, Mapping[str, Any]],
        changed: threading.Condition,
        answered: threading.Condition,
    ) -> None:
        self.session = session
        self.changed = changed
        self._on_answer = answered
        self.buffer: deque[tuple[Content, str]] = deque()
        self.held: dict[int, tuple[Content, str]] = {}
        """What the worker has, with its queue, by delivery tag."""
        self.aside: dict[int, tuple[Content, str]] = {}
        """The same of what it has put off."""
        self.failure: UmbelError | None = None
        self._queues = list(queues.items())
        self._unsettled: dict[int, str] = {}
        """Every delivery on this channel that is not settled, in order, with the consumer tag it came by."""
        self._names: dict[str, str] = {}
        """Queue by consumer tag, of all consumers there ever were on this channel."""
        self._active: set[str] = set()
        self._credit = dict.fromkeys(queues, 0)
        self._granted = 0
        self._asked_until = 0.0
        self._fitted_at = 0.0
        self._watched = False
        self._unsent = b""
        self.questions = 0
        self.answered = 0
        self._answered_at = 0.0
        """How many questions were asked, and answered."""

    def open(self, timeout: float) -> None:
        """Open the channel. Raises OperationalError."""
        self.session.on_lost.append(self._on_lost)
        self.session.open_channel(CHANNEL, self._prepare, timeout)

    def _prepare(self, channel: Any, done: Callable[..., None]) -> None:
        channel.add_on_close_callback(self._on_channel_closed)
        channel.add_on_cancel_callback(self._on_cancelled)
        self.session.connection.receive_with(CHANNEL, self)
        done()

    # -- the consumer's threads; all with ``changed`` held --

    def ask(self, count: int, seconds: float = 0.0) -> None:
        """``count`` messages are wanted by somebody who waits that long for them."""
        moment = time.monotonic()
        self._asked_until = moment + seconds
        if sum(self._credit.values()) <= 2 * count * len(self._queues) + _MANY:
            self._fitted_at = moment
        elif moment - self._fitted_at > _UNFITTED:
            self.end_credit()
        missing = count - len(self.buffer) - min(self._credit.values())
        if missing > 0:
            self._grant(missing + ((count + len(self.held)) // 4 if count >= _MANY else 0))
        if not self._watched:
            self._watched = True
            self.session.run(self._watch)

    def proven_before(self, seconds: float) -> bool:
        """Whether the last answer came longer ago than that."""
        return time.monotonic() - self._answered_at > seconds

    def flush(self) -> None:
        """Send what would go out with the next ``question``."""
        self._send(b"")

    def question(self) -> None:
        """Ask the broker for an answer, which it gives when it has seen all that was sent before."""
        self._send(self._qos(1))

    def await_answer(self, timeout: float) -> bool:
        """Wait ``timeout`` seconds at most until all questions so far are answered; whether they are.

        An answer is proof that the session was alive when the question was asked.
        """
        asked = self.questions
        self._on_answer.wait_for(lambda: self.answered >= asked or self.failure is not None, timeout)
        return self.answered >= asked

    def end_ask(self) -> None:
        """Nobody waits any more."""
        self._asked_until = min(self._asked_until, time.monotonic())

    def withdraw(self, timeout: float) -> None:
        """An ask brought nothing: end all credit, and wait until what was under way has arrived."""
        self.end_credit()
        self.question()
        self.await_answer(timeout)

    def take(self, limit: int) -> list[tuple[Content, str]]:
        """Up to ``limit`` messages from the buffer, held from now on."""
        taken = [self.buffer.popleft() for _ in range(min(limit, len(self.buffer)))]
        self.held.update((item[0].tag, item) for item in taken)
        return taken

    def put_aside(self, tag: int) -> None:
        """A held delivery is put off."""
        self.aside[tag] = self.held.pop(tag)

    def hold_again(self, tag: int) -> None:
        """It is held as it was before."""
        self.held[tag] = self.aside.pop(tag)

    def end_credit(self) -> None:
        """Let nothing more be pushed; what is under way still comes."""
        self._send(b"".join(_frame(spec.Basic.Cancel(consumer_tag=tag, nowait=True)) for tag in self._active))
        self._active.clear()
        self._credit = dict.fromkeys(self._credit, 0)
        self._granted = 0

    def acknowledge(self, tags: Iterable[int], asked: bool) -> None:
        """Settle held deliveries; it goes out with the next ``question``.

        ``asked``: more may come for them; otherwise, when they are few, credit ends.
        """
        settled = set(tags)
        for tag in settled:
            del self.held[tag]
        if not asked and self._granted < _MANY:
            self.end_credit()
        up_to = 0
        for tag in self._unsettled:
            if tag not in settled:
                break
            up_to = tag
        single = sorted(tag for tag in settled if tag > up_to)
        for tag in settled:
            self._forget(tag)
        self._unsent += ack_frames(CHANNEL, single, up_to)

    def surplus(self) -> list[tuple[Content, str]]:
        """What nobody has asked for since ``_KEEP`` seconds, taken from the buffer and held."""
        if not self.buffer or time.monotonic() - self._asked_until < _KEEP:
            return []
        return self.take(len(self.buffer))

    def put_back(self, tags: Iterable[int]) -> None:
        """Give held deliveries back by basic.nack."""
        returned = sorted(tags)
        for tag in returned:
            del self.held[tag]
            self._forget(tag)
        self._send(b"".join(requeue_frame(CHANNEL, tag) for tag in returned))

    def take_all(self) -> list[tuple[Content, str]]:
        """Everything that is held or waits in the buffer, in the order in which it came."""
        self.take(len(self.buffer))
        return [self.held[tag] for tag in sorted(self.held)]

    # -- flow --

    def _grant(self, count: int) -> None:
        """Let every queue push ``count`` more."""
        if len(self._active) > _MOST_CONSUMERS * len(self._queues):
            self.end_credit()
        count = min(count, _MOST)
        frames = [self._qos(count)]
        for name, arguments in self._queues:
            tag = f"umbel{len(self._names)}"
            self._names[tag] = name
            self._active.add(tag)
            self._credit[name] += count
            consume = spec.Basic.Consume(queue=name, consumer_tag=tag, nowait=True, arguments=dict(arguments))
            frames.append(_frame(consume))
        self._granted += count
        self._queues.append(self._queues.pop(0))
        self._send(b"".join(frames))

    def _qos(self, count: int) -> bytes:
        self.questions += 1
        return _frame(spec.Basic.Qos(prefetch_count=count))

    def _forget(self, tag: int) -> None:
        source = self._unsettled.pop(tag, "")
        if source in self._active:
            self._credit[self._names[source]] += 1

    def _send(self, frames: bytes) -> None:
        if frames or self._unsent:
            frames, self._unsent = self._unsent + frames, b""
            self.session.send(frames)

    # -- I/O thread --

    def on_content(self, method: int, content: Content) -> None:
        if method != DELIVER:
            return
        with self.changed:
            self._unsettled[content.tag] = content.source
            name = self._names[content.source]
            if content.source in self._active:
                self._credit[name] -= 1
            self.buffer.append((content, name))
            self.changed.notify_all()

    def on_method(self, method: int, arguments: bytes) -> None:
        if method == QOS_OK:
            with self.changed:
                self.answered += 1
                self._answered_at = time.monotonic()
                self._on_answer.notify_all()

    def _watch(self) -> None:
        """End the credit when nobody asks."""
        with self.changed:
            quiet = time.monotonic() - self._asked_until
            if quiet >= _QUIET:
                self.end_credit()
                self._watched = False
                return
        self.session.later(min(_LONGEST_WATCH, _QUIET - quiet), self._watch)

    def _on_cancelled(self, method: Any) -> None:
        self._fail(OperationalError("the broker ended the consumer: its queue was deleted or has moved"))
        self.session.drop(OperationalError("the broker ended the consumer: its queue was deleted or has moved"))

    def _on_channel_closed(self, channel: Any, reason: BaseException) -> None:
        if self.failure is None and self.session.alive:
            error = OperationalError(f"the broker closed the consumer's channel: {reason}")
            self._fail(error)
            self.session.drop(error)

    def _on_lost(self, error: UmbelError) -> None:
        self._fail(error)

    def _fail(self, error: UmbelError) -> None:
        with self.changed:
            self.failure = self.failure or error
            self.changed.notify_all()
            self._on_answer.notify_all()


def _frame(method: Any) -> bytes:
    return frame.Method(CHANNEL, method).marshal()
