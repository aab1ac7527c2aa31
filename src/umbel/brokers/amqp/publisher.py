"""Publishing with confirms: everything that any thread sends goes through one channel, many messages at a time.

A caller's posts are a batch. Batches of all threads are written one after the other without waiting, up to
``_MOST_UNCONFIRMED`` messages or ``_MOST_BYTES``; each caller waits for the confirms of its own. When the connection
breaks, what was not confirmed is sent again on the next one: AMQP has no deduplication, so a message whose confirm
was lost with the connection is then in its queue twice.

The outcome of a task that comes back while a caller still waits for the confirm (the server writes to the disk first)
is as good as one: ``answered``.
"""

from __future__ import annotations

import threading
import time
import weakref
from collections import deque
from collections.abc import Callable, Sequence
from typing import Any

from pika.exceptions import ChannelClosedByBroker

from umbel.brokers.amqp.addresses import Address
from umbel.brokers.amqp.channels import NOT_FOUND, Refused
from umbel.brokers.amqp.frames import ACK, NACK, RETURN, Content, properties_of, publish_frames, read_confirm
from umbel.brokers.amqp.posts import Post
from umbel.brokers.amqp.session import Session, Sessions
from umbel.errors import BrokerError, OperationalError, PublishTimeout, UmbelError, UnroutableMessage

CHANNEL = 1

_MOST_UNCONFIRMED = 5_000
_MOST_BYTES = 8 << 20
_MOST_UNAWAITED = 500
_WRITE_BYTES = 1 << 18
_FEW = 16
"""Unconfirmed messages among which an answered one is looked for."""
_FIRST_PAUSE, _LONGEST_PAUSE = 0.05, 1.0


class _Batch:
    """What one call publishes on one connection. ``outcomes``: None is confirmed, absent is not known.

    ``on_end``: called once it is settled or the connection broke, where nobody waits for that.
    """

    def __init__(
        self, posts: Sequence[Post], frames: Sequence[bytes], on_end: Callable[[_Batch], object] | None = None
    ) -> None:
        self.posts = posts
        self.on_end = on_end
        self.frames = frames
        self.sent = 0
        self.outcomes: dict[int, UmbelError | None] = {}
        self.returned: set[int] = set()
        self.abandoned = False
        self.done = threading.Event()

    def settle(self, index: int, outcome: UmbelError | None) -> None:
        self.outcomes[index] = outcome
        if len(self.outcomes) == len(self.posts):
            self.end()

    def end(self) -> None:
        if self.on_end is None:
            self.done.set()
        else:
            on_end, self.on_end = self.on_end, _ignore
            on_end(self)


class _Window:
    """The confirming channel of one session. Who has a batch writes it; ``_guard`` is for that and the I/O thread."""

    def __init__(self, session: Session) -> None:
        self.session = session
        self.usable = True
        self._waiting: deque[_Batch] = deque()
        self._unconfirmed: dict[int, tuple[_Batch, int]] = {}
        self._bytes = 0
        self._next_tag = 1
        self._guard = threading.Lock()
        self._batches: dict[_Batch, None] = {}
        """In the order in which they came."""

    def open(self, timeout: float) -> None:
        """Open the channel and switch confirms on. Any thread. Raises OperationalError."""
        self.session.on_lost.append(self._on_lost)
        self.session.on_unblocked.append(self._on_unblocked)
        self.session.open_channel(CHANNEL, self._prepare, timeout)

    def _prepare(self, channel: Any, done: Callable[..., None]) -> None:
        channel.add_on_close_callback(self._on_channel_closed)
        channel.confirm_delivery(_ignore, callback=done)
        self.session.connection.receive_with(CHANNEL, self)

    def deliver(self, batch: _Batch, deadline: float) -> None:
        """Send a batch and wait until it is settled, the connection broke, or time is up. Any thread."""
        with self._guard:
            if not self.usable:
                return
            self._batches[batch] = None
            self._waiting.append(batch)
            self._pump()
        if not batch.done.wait(max(0.0, deadline - time.monotonic())):
            batch.abandoned = True
        with self._guard:
            self._batches.pop(batch, None)

    def begin(self, batch: _Batch) -> bool:
        """Send a batch whose end is told; False, and nothing is sent, where that would have to wait. Any thread."""
        with self._guard:
            if not self.usable or self._waiting or self.session.blocked or len(self._batches) >= _MOST_UNAWAITED:
                return False
            self._batches[batch] = None
            self._waiting.append(batch)
            self._pump()
            return True

    def _pump(self) -> None:
        """Write what may be written now. ``_guard`` is held."""
        pieces: list[bytes] = []
        written = 0
        while self._waiting and not self.session.blocked and self.usable:
            batch = self._waiting[0]
            if batch.abandoned or batch.sent == len(batch.posts):
                self._waiting.popleft()
                continue
            if len(self._unconfirmed) >= _MOST_UNCONFIRMED or self._bytes >= _MOST_BYTES:
                break
            frames = batch.frames[batch.sent]
            self._unconfirmed[self._next_tag] = (batch, batch.sent)
            self._next_tag += 1
            self._bytes += len(frames)
            batch.sent += 1
            pieces.append(frames)
            written += len(frames)
            if written >= _WRITE_BYTES:
                self.session.send(b"".join(pieces))
                pieces, written = [], 0
        if pieces:
            self.session.send(b"".join(pieces))

    # -- I/O thread --

    def _on_unblocked(self) -> None:
        with self._guard:
            self._pump()

    def on_method(self, method: int, arguments: bytes) -> None:
        if method not in (ACK, NACK):
            return
        tag, multiple = read_confirm(arguments)
        outcome = None
        if method == NACK:
            outcome = BrokerError("the broker refused a message (a full queue that rejects, or a failed node)")
        with self._guard:
            if multiple:
                for each in list(self._unconfirmed):
                    if each > tag:
                        break
                    self._confirm(each, outcome)
            else:
                self._confirm(tag, outcome)
            if self._waiting:
                self._pump()

    def _confirm(self, tag: int, outcome: UmbelError | None) -> None:
        batch, index = self._unconfirmed.pop(tag)
        self._bytes -= len(batch.frames[index])
        if index in batch.returned:
            outcome = unroutable(batch.posts[index])
        batch.settle(index, outcome)
        if batch.on_end is not None and len(batch.outcomes) == len(batch.posts):
            self._batches.pop(batch, None)

    def answered(self, identity: str) -> None:
        """The message of that correlation id has been delivered, and settled. Any thread."""
        with self._guard:
            if len(self._unconfirmed) <= _FEW:
                for batch, index in self._unconfirmed.values():
                    if batch.posts[index].identity == identity:
                        batch.settle(index, None)

    def on_content(self, method: int, content: Content) -> None:
        if method != RETURN:
            return
        identity = properties_of(content.header).correlation_id
        place = (content.exchange, content.routing_key, identity)
        with self._guard:
            for batch, index in self._unconfirmed.values():
                post = batch.posts[index]
                if (post.exchange, post.routing_key, post.identity) == place:
                    batch.returned.add(index)

    def _on_channel_closed(self, channel: Any, reason: BaseException) -> None:
        """The broker refused something: blame whom it names; the rest is sent again on another connection."""
        if isinstance(reason, ChannelClosedByBroker):
            with self._guard:
                self._blame(reason)
        self._on_lost(OperationalError("the publishing channel was closed"))
        if self.session.alive:
            self.session.drop(OperationalError("the publishing channel was closed by the broker"))

    def _blame(self, reason: ChannelClosedByBroker) -> None:
        for batch, index in self._unconfirmed.values():
            post = batch.posts[index]
            if reason.reply_code != NOT_FOUND:
                batch.settle(index, Refused(reason.reply_code, f"{post.what} was not sent: {reason.reply_text}"))
            elif f"'{post.exchange}'" in str(reason.reply_text):
                batch.settle(index, unroutable(post))

    def _on_lost(self, error: UmbelError) -> None:
        with self._guard:
            self.usable = False
            for batch in list(self._batches):
                batch.end()
            self._unconfirmed.clear()
            self._waiting.clear()


def unroutable(post: Post) -> UnroutableMessage:
    """Why a post was not sent, naming its queue or its exchange."""
    if not post.exchange:
        return UnroutableMessage(f"{post.what} was not sent: there is no queue {post.routing_key!r}")
    return UnroutableMessage(
        f"{post.what} was not sent: no queue is bound to exchange {post.exchange!r} with routing key"
        f" {post.routing_key!r}"
    )


class Publisher:
    """Sends posts; safe for threads. ``make_queue`` is asked for a queue that turns out to be missing."""

    def __init__(self, servers: Sequence[Address], connect_timeout: float, make_queue: Callable[[str], None]) -> None:
        self._windows: dict[Session, _Window] = {}
        self._sessions = Sessions(servers, "publisher", connect_timeout, self._prepare)
        self._make_queue = make_queue
        _publishers.add(self)

    def answered(self, identity: str) -> None:
        """See the function ``answered``."""
        for session, window in self._windows.items():
            if session.alive:
                window.answered(identity)

    def _prepare(self, session: Session, timeout: float) -> None:
        window = _Window(session)
        window.open(timeout)
        self._windows = {session: window}

    def publish(self, posts: Sequence[Post], timeout: float) -> None:
        """Send all; returns when all are confirmed. Raises the first error there was, see ``send``."""
        for outcome in self.send(posts, timeout):
            if outcome is not None:
                raise outcome

    def send(self, posts: Sequence[Post], timeout: float) -> list[UmbelError | None]:
        """Send all within ``timeout`` seconds; what became of each: None when the broker has it.

        Errors: UnroutableMessage, PublishTimeout (it may have been sent), BrokerError when the broker refused it.
        """
        deadline = time.monotonic() + timeout
        outcomes: list[UmbelError | None] = [None] * len(posts)
        left = list(range(len(posts)))
        made: set[str] = set()
        pause = _FIRST_PAUSE
        while left:
            try:
                done = self._send_once([posts[index] for index in left], deadline, timeout)
            except OperationalError as error:
                if time.monotonic() + pause >= deadline:
                    for index in left:
                        outcomes[index] = _timed_out(posts[index], timeout, str(error))
                    break
                time.sleep(pause)
                pause = min(_LONGEST_PAUSE, pause * 2)
                continue
            except UmbelError as error:
                for index in left:
                    outcomes[index] = error
                break
            again: list[int] = []
            missing: set[str] = set()
            for place, index in enumerate(left):
                outcome = outcomes[index] = done.get(place)
                queue = posts[index].queue
                if place not in done:
                    again.append(index)
                elif isinstance(outcome, UnroutableMessage) and queue and queue not in made:
                    again.append(index)
                    missing.add(queue)
            for queue in missing:
                self._make_queue(queue)
            made |= missing
            left = again
        return outcomes

    def begin(self, posts: Sequence[Post], on_end: Callable[[list[UmbelError | None]], object]) -> bool:
        """Write all to the connection that there is. False, and nothing was sent, where there is none or it is full.

        ``on_end`` is called in the I/O thread with what became of each, as by ``send``; OperationalError where the
        connection broke before it was confirmed. It must not block, nor publish. Raises MessageTooLarge.
        """
        session = self._sessions.current
        window = self._windows.get(session) if session is not None else None
        if session is None or window is None:
            return False

        def ended(batch: _Batch) -> None:
            broken = session.error or OperationalError("the connection was closed")
            on_end([batch.outcomes.get(place, broken) for place in range(len(posts))])

        return window.begin(_Batch(posts, _frames(session, posts), ended))

    def _send_once(self, posts: Sequence[Post], deadline: float, timeout: float) -> dict[int, UmbelError | None]:
        """Outcomes by place; what is missing was not answered before the connection broke."""
        session = self._sessions.get(deadline)
        window = self._windows.get(session)
        if window is None:
            raise OperationalError("the connection was closed meanwhile")
        batch = _Batch(posts, _frames(session, posts))
        window.deliver(batch, deadline)
        outcomes = dict(batch.outcomes)
        if batch.abandoned:
            reason = f"blocks publishers: {session.blocked}" if session.blocked else "did not answer"
            for place, post in enumerate(posts):
                if place not in outcomes:
                    outcomes[place] = _timed_out(post, timeout, f"{session.address.shown} {reason}")
        return outcomes

    def close(self) -> None:
        """Close the connection; the next ``send`` opens another."""
        self._sessions.close()
        self._windows = {}


_publishers: weakref.WeakSet[Publisher] = weakref.WeakSet()


def answered(identity: str) -> None:
    """A task has ended whose message has this correlation id: whoever still waits until the broker has it for sure, in
    this process, may go on. Any thread."""
    for publisher in list(_publishers):
        publisher.answered(identity)


def _frames(session: Session, posts: Sequence[Post]) -> list[bytes]:
    frame_max = session.connection.frame_max
    return [
        publish_frames(CHANNEL, p.exchange, p.routing_key, p.mandatory, p.properties, p.body, frame_max) for p in posts
    ]


def _timed_out(post: Post, timeout: float, reason: str) -> PublishTimeout:
    return PublishTimeout(f"{post.what} was not confirmed within {timeout:g} s: {reason}")


def _ignore(*_: object) -> None:
    """pika's callback for confirms, which never reach it."""
