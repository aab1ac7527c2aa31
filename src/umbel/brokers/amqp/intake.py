"""Intake: what a consumer's connection has been given by the broker and what is still held, and the flow control.

RabbitMQ pushes; the seam asks. What may be pushed is bounded by a prefetch count per queue, which AMQP fixes when a
consumer begins, for quorum queues and on RabbitMQ 4 for all; so it is changed by cancelling and consuming anew on the
same channel (a *round*). What was delivered in earlier rounds stays held and does not count against a later one.

* An ask for a few messages (long tasks) sets the prefetch to exactly what is missing: nothing is pushed that nobody
  asked for. With several queues each may give that many; the surplus waits in the buffer.
* An ask for ``_MANY`` or more (short tasks) sets it to that plus what is held, and a quarter: then acknowledging alone
  keeps messages coming, no further round is needed, and the next batch arrives while this one runs.
* When nobody asks for ``_QUIET`` seconds the round ends; what nobody takes for ``_KEEP`` seconds goes back in place.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from pika import frame, spec

from umbel.brokers.amqp.frames import DELIVER, Content, ack_frames, requeue_frame
from umbel.brokers.amqp.session import Session
from umbel.errors import OperationalError, UmbelError

CHANNEL = 1

_MANY = 16
_MOST = 65_535
_QUIET = 0.05
_KEEP = 1.0
_UNFITTED = 0.25


class Intake:
    """One connection's deliveries. ``changed`` guards it; the I/O thread and the consumer's three threads meet here."""

    def __init__(self, session: Session, queues: Mapping[str, Mapping[str, Any]], changed: threading.Condition) -> None:
        self.session = session
        self.changed = changed
        self.buffer: deque[tuple[Content, str]] = deque()
        self.held: set[int] = set()
        self.failure: UmbelError | None = None
        self._queues = list(queues.items())
        self._unsettled: dict[int, str] = {}
        """Every delivery on this channel that is not settled, in order, with the consumer tag it came by."""
        self._round = 0
        self._prefetch = 0
        self._taken: dict[str, int] = {}
        """Unsettled deliveries of this round by consumer tag."""
        self._names: dict[str, str] = {}
        self._asked_until = 0.0
        self._fitted_at = 0.0
        self._watched = False

    def open(self, timeout: float) -> None:
        """Open the channel. Raises OperationalError."""
        ready = threading.Event()
        session = self.session

        def opened(channel: Any) -> None:
            channel.add_on_close_callback(self._on_channel_closed)
            channel.add_on_cancel_callback(self._on_cancelled)
            session.connection.receive_with(CHANNEL, self)
            ready.set()

        session.on_lost += [self._on_lost, lambda _: ready.set()]
        session.run(lambda: session.connection.channel(CHANNEL, on_open_callback=opened))
        if not ready.wait(timeout):
            raise OperationalError(f"{session.address.shown} opened no channel within {timeout:.1f} s")
        if session.error is not None:
            raise session.error

    # -- the consumer's threads; all with ``changed`` held --

    def ask(self, count: int, seconds: float = 0.0) -> None:
        """``count`` messages are wanted by somebody who waits that long for them."""
        moment = time.monotonic()
        self._asked_until = moment + seconds
        missing = count - len(self.buffer)
        if self._most_credit() <= 2 * count * len(self._queues) + _MANY:
            self._fitted_at = moment
        if missing > self._credit() or moment - self._fitted_at > _UNFITTED:
            self._begin_round(missing, count)
            self._fitted_at = moment
        if not self._watched:
            self._watched = True
            self.session.run(self._watch)

    def end_ask(self) -> None:
        """Nobody waits any more."""
        self._asked_until = min(self._asked_until, time.monotonic())

    def take(self, limit: int) -> list[tuple[Content, str]]:
        """Up to ``limit`` messages from the buffer, held from now on."""
        taken = [self.buffer.popleft() for _ in range(min(limit, len(self.buffer)))]
        self.held.update(content.tag for content, _ in taken)
        return taken

    def acknowledge(self, tags: Iterable[int], asked: bool) -> None:
        """Settle held deliveries. ``asked``: more may come for them; otherwise the round ends before."""
        settled = set(tags)
        self.held -= settled
        if not asked:
            self._end_round()
        up_to = 0
        for tag in self._unsettled:
            if tag not in settled:
                break
            up_to = tag
        single = sorted(tag for tag in settled if tag > up_to)
        for tag in settled:
            self._forget(tag)
        frames = ack_frames(CHANNEL, single, up_to)
        self._send(frames)

    def stop(self) -> None:
        """Take no more, and give back all that is not settled, each to its place."""
        self._end_round()
        self._requeue(list(self._unsettled))
        self.buffer.clear()
        self.held.clear()

    # -- flow --

    def _credit(self) -> int:
        """How many more each queue may push at least."""
        if not self._prefetch:
            return 0
        return self._prefetch - max(self._taken.values())

    def _most_credit(self) -> int:
        return self._prefetch * len(self._taken) - sum(self._taken.values()) if self._prefetch else 0

    def _begin_round(self, missing: int, count: int) -> None:
        self._end_round()
        if missing <= 0:
            return
        prefetch = min(_MOST, missing if count < _MANY else (count + len(self.held)) * 5 // 4)
        self._prefetch = prefetch
        self._round += 1
        tags = [f"umbel{self._round}.{place}" for place in range(len(self._queues))]
        self._taken = dict.fromkeys(tags, 0)
        frames = [_frame(spec.Basic.Qos(prefetch_count=prefetch))]
        for tag, (name, arguments) in zip(tags, self._queues, strict=True):
            self._names[tag] = name
            consume = spec.Basic.Consume(queue=name, consumer_tag=tag, nowait=True, arguments=dict(arguments))
            frames.append(_frame(consume))
        turn = self._round % len(tags)
        self._send(b"".join((frames[0], *frames[1 + turn :], *frames[1 : 1 + turn])))

    def _end_round(self) -> None:
        if not self._prefetch:
            return
        self._send(b"".join(_frame(spec.Basic.Cancel(consumer_tag=tag, nowait=True)) for tag in self._taken))
        self._taken, self._prefetch = {}, 0

    def _forget(self, tag: int) -> None:
        source = self._unsettled.pop(tag, "")
        if source in self._taken:
            self._taken[source] -= 1

    def _requeue(self, tags: Sequence[int]) -> None:
        for tag in tags:
            self._forget(tag)
        self._send(b"".join(requeue_frame(CHANNEL, tag) for tag in tags))

    def _send(self, frames: bytes) -> None:
        if frames:
            self.session.run(lambda: self.session.connection.send(frames))

    # -- I/O thread --

    def on_content(self, method: int, content: Content) -> None:
        if method != DELIVER:
            return
        with self.changed:
            self._unsettled[content.tag] = content.source
            if content.source in self._taken:
                self._taken[content.source] += 1
            self.buffer.append((content, self._names[content.source]))
            self.changed.notify_all()

    def on_method(self, method: int, arguments: bytes) -> None:
        """No confirms and no gets on this channel."""

    def _watch(self) -> None:
        """End the round when nobody asks, and give back what nobody took."""
        with self.changed:
            quiet = time.monotonic() - self._asked_until
            if quiet >= _QUIET:
                self._end_round()
            if quiet >= _KEEP or (quiet >= _QUIET and not self.buffer):
                self._requeue([content.tag for content, _ in self.buffer])
                self.buffer.clear()
                self._watched = False
                return
        self.session.later(min(_KEEP, max(_QUIET, _QUIET - quiet)), self._watch)

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


def _frame(method: Any) -> bytes:
    return frame.Method(CHANNEL, method).marshal()
