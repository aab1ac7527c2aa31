"""How an idle consumer learns of a message the moment it is pushed, whoever pushes it.

A connection per watched list waits in ``BLMOVE <list> <landing place>``: Redis itself moves the message into a place
of this consumer, so exactly one idle consumer is woken by one message, and nothing is lost if the answer is. What has
landed is adopted by the consumer's next claim. Invalidation messages (CLIENT TRACKING), key space notifications and a
``BLMOVE`` of a list to itself were considered: they wake every idle worker for each message.
"""

from __future__ import annotations

import contextlib
import select
import socket
import time

from umbel.brokers.redis_link import NOTHING, Link, pack
from umbel.brokers.redis_server import Server
from umbel.errors import OperationalError

LONGEST_WAIT = 1.0
"""Seconds for which the server keeps one wait; a wait that outlives its consumer ends by itself."""


class Wakes:
    """The waits of one consumer. All but ``interrupt`` are called by one thread."""

    def __init__(self, server: Server) -> None:
        self._server = server
        self._links: dict[int, Link] = {}
        self._waiting: dict[int, Link] = {}
        self._poller = select.poll()
        self._ear, self._voice = socket.socketpair()
        self._ear.setblocking(False)
        self._voice.setblocking(False)
        self._poller.register(self._ear, select.POLLIN)
        self.interrupted = False
        self.broke = False
        """Whether a connection broke while a wait was on its way."""

    @property
    def waiting(self) -> bool:
        """Whether waits are on their way, so that something may land."""
        return bool(self._waiting)

    def wait_for(self, index: int, source: str, landing: str, timeout: float) -> None:
        """Let the server move the next message of ``source`` to ``landing``. Raises OperationalError, BrokerError."""
        if index in self._waiting:
            return
        link = self._links.get(index)
        if link is None:
            link = self._links[index] = Link(self._server, self._server.connect_timeout)
            self._poller.register(link, select.POLLIN)
        seconds = max(0.01, min(timeout, LONGEST_WAIT))
        self._waiting[index] = link
        try:
            link.send(pack("BLMOVE", source, landing, "RIGHT", "LEFT", round(seconds, 3)))
        except OperationalError:
            self.reset()
            raise

    def sleep(self, timeout: float) -> bool:
        """Wait up to ``timeout`` seconds; true when something has landed. Returns early when interrupted or when a
        wait has run out. Raises OperationalError when a connection broke."""
        deadline = time.monotonic() + timeout
        while not self.interrupted:
            rest = deadline - time.monotonic()
            if rest <= 0:
                return False
            ready = {descriptor for descriptor, _ in self._poller.poll(rest * 1000 + 0.5)}
            if self._ear.fileno() in ready:
                self._drain()
            ended = False
            for index, link in list(self._waiting.items()):
                if link.fileno() in ready:
                    reply = self._read(index, link)
                    if reply is not NOTHING and reply is not None:
                        return True
                    ended = ended or reply is None
            if ended:
                return False
        return False

    def _read(self, index: int, link: Link) -> object:
        try:
            reply = link.poll(0)
        except OperationalError:
            self.reset()
            raise
        if reply is not NOTHING:
            del self._waiting[index]
        if isinstance(reply, Exception):
            self.reset()
            raise OperationalError(f"Redis answered: {reply}") from reply
        return reply

    def unblock(self) -> list[bytes]:
        """Commands, for another connection, after which no wait can land anything any more; ``collect`` follows."""
        return [pack("CLIENT", "UNBLOCK", link.id) for link in self._waiting.values()]

    def collect(self) -> None:
        """Read the answers of waits that were unblocked."""
        for index, link in list(self._waiting.items()):
            try:
                link.read()
            except OperationalError:
                self.reset()
                return
            del self._waiting[index]

    def _drain(self) -> None:
        self.interrupted = True
        with contextlib.suppress(BlockingIOError):
            self._ear.recv(4096)

    def interrupt(self) -> None:
        """End ``sleep`` now, or the next one at once. Any thread."""
        with contextlib.suppress(OSError):
            self._voice.send(b"!")

    def take_interrupt(self) -> bool:
        """Whether somebody interrupted since it was last asked."""
        with contextlib.suppress(BlockingIOError):
            if self._ear.recv(4096):
                self.interrupted = True
        was, self.interrupted = self.interrupted, False
        return was

    def reset(self) -> None:
        """Drop all connections."""
        self.broke = self.broke or bool(self._waiting)
        self._waiting.clear()
        for link in self._links.values():
            with contextlib.suppress(KeyError, ValueError):
                self._poller.unregister(link)
            link.close()
        self._links.clear()

    def close(self) -> None:
        self.reset()
        self._ear.close()
        self._voice.close()
