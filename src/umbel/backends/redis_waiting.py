"""Waiting for results in the calling thread: one write to subscribe and ask, then a read until it is there.

A RESP3 connection may ask while it is subscribed, and pushes can be told from answers: so SUBSCRIBE and MGET go out
together, and nothing that is stored in between is missed. Connections are kept for the next wait, which also ends the
subscriptions of one that got all its results; what a wait left unread (an answer no longer needed) is skipped.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Sequence
from typing import Any, cast

from msgspec import Struct

from umbel.backends.base import Meta
from umbel.brokers.redis.link import NOTHING, Link, PushNotification, pack, raise_refusal
from umbel.brokers.redis.server import Server
from umbel.errors import OperationalError

_ASK_EVERY = 30.0
"""Seconds of silence after which a wait asks again, which also shows that the server is there."""

_LONGEST_PAUSE = 0.5

_FIRST_LOOK = 0.3
"""Seconds that even a wait without time takes to ask once."""


class _Subscriber(Struct):
    """A connection for waiting. ``owed``: answers that will come and nobody needs. ``over``: it is subscribed to
    channels on which nothing is expected any more."""

    link: Link
    owed: int = 0
    over: bool = False


class _Wait(Struct):
    """What one call waits for: keys that are not ready yet, and the last payload seen of each."""

    pending: dict[bytes, None]
    seen: dict[bytes, bytes]
    on_meta: Callable[[Meta], object]
    deadline: float | None
    looked: bool = False

    def rest(self, most: float) -> float:
        """Seconds left, at most ``most``; until the first answer there are always some."""
        if self.deadline is None:
            return most
        rest = self.deadline - time.monotonic()
        return min(most, rest if self.looked else max(rest, _FIRST_LOOK))


class Waiting:
    """All waits of one backend object."""

    def __init__(self, server: Server, patience: float, read: Callable[[bytes], Meta]) -> None:
        """``patience``: seconds for which a server that cannot be reached is tried again."""
        self._server = server
        self._patience = patience
        self._decode = read
        self._idle: deque[_Subscriber] = deque()
        self._generation = 0

    def wait(self, keys: Sequence[str], timeout: float | None, on_meta: Callable[[Meta], object]) -> bool:
        """See ``Backend.wait``; ``keys`` are those of the results. Raises OperationalError, BrokerError."""
        deadline = None if timeout is None else time.monotonic() + timeout
        wait = _Wait(dict.fromkeys(key.encode() for key in keys), {}, on_meta, deadline)
        give_up: float | None = None
        pause = 0.0
        while wait.pending:
            asked = time.monotonic()
            try:
                self._wait_connected(wait)
                break
            except OperationalError:
                failed = time.monotonic()
                if give_up is None or failed - asked > self._patience:
                    give_up, pause = failed + self._patience, 0.0
                if wait.rest(pause + 1e-3) <= pause:
                    break
                if failed + pause >= give_up:
                    raise
                time.sleep(pause)
                pause = min(_LONGEST_PAUSE, 2 * pause or 0.02)
        return not wait.pending

    def _wait_connected(self, wait: _Wait) -> None:
        generation = self._generation
        subscriber = self._take(wait)
        clean = False
        try:
            self._watch(subscriber, wait)
            subscriber.over = not wait.pending
            if wait.pending:
                subscriber.link.send(pack("UNSUBSCRIBE"))
            clean = generation == self._generation
        finally:
            if clean:
                self._idle.append(subscriber)
            else:
                subscriber.link.close()

    def _take(self, wait: _Wait) -> _Subscriber:
        try:
            subscriber = self._idle.pop()
        except IndexError:
            return _Subscriber(Link(self._server, max(_FIRST_LOOK, wait.rest(self._server.connect_timeout))))
        return subscriber

    def _watch(self, subscriber: _Subscriber, wait: _Wait) -> None:
        link = subscriber.link
        asked = tuple(wait.pending)
        subscribe = pack("SUBSCRIBE", *asked) + pack("MGET", *asked)
        link.send(pack("UNSUBSCRIBE") + subscribe if subscriber.over else subscribe)
        subscriber.owed += 1
        while wait.pending:
            rest = wait.rest(_ASK_EVERY)
            reply: Any = link.poll(rest) if rest > 0 else NOTHING
            if reply is NOTHING:
                if wait.deadline is not None and time.monotonic() >= wait.deadline:
                    return
                if subscriber.owed:
                    link.close()
                    raise OperationalError(f"no answer from {self._server.shown} within {_ASK_EVERY:g} s")
                asked = tuple(wait.pending)
                link.send(pack("MGET", *asked))
                subscriber.owed += 1
            elif type(reply) is PushNotification:
                push = cast("list[bytes]", reply)
                if push[0] == b"message":
                    self._note(wait, push[1], push[2])
            else:
                subscriber.owed -= 1
                if isinstance(reply, Exception):
                    link.close()
                    raise_refusal(reply)
                wait.looked = not subscriber.owed
                if wait.looked:
                    for key, payload in zip(asked, cast("list[bytes | None]", reply), strict=True):
                        if payload is not None:
                            self._note(wait, key, payload)

    def _note(self, wait: _Wait, key: bytes, payload: bytes) -> None:
        if key not in wait.pending or wait.seen.get(key) == payload:
            return
        wait.seen[key] = payload
        meta = self._decode(payload)
        if meta.ready:
            del wait.pending[key]
        wait.on_meta(meta)

    def close(self) -> None:
        """Close idle connections now, the others when their wait is over."""
        self._generation += 1
        while self._idle:
            self._idle.pop().link.close()
