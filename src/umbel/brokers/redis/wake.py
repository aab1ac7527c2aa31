"""How an idle consumer learns of a message the moment it is pushed, whoever pushes it.

A connection per queue waits in ``BLMOVE <list> <landing place>``: Redis itself moves the message into a place of this
consumer, so exactly one idle consumer is woken by one message, and nothing is lost if the answer is. What has landed is
adopted by the consumer's next claim. Lists of the other priorities are not waited at: Umbel's clients send a hint when
they push there, Celery's messages with a priority are found by the next look. Invalidation messages (CLIENT TRACKING),
key space notifications and a ``BLMOVE`` of a list to itself were considered: they wake every idle worker for each
message.
"""

from __future__ import annotations

import contextlib
import enum
import select
import socket
import time
from typing import cast

from umbel.brokers.redis.link import Link, PushNotification, pack
from umbel.brokers.redis.server import Server
from umbel.errors import OperationalError

LONGEST_WAIT = 5.0
"""Seconds for which the server keeps one wait; a wait that outlives its consumer ends by itself."""


class Woken(enum.Enum):
    """Why a sleep ended."""

    NOT = 0
    HINT = 1
    """Something was delayed until earlier than all others, or was pushed where nobody waits."""
    LANDED = 2


class Wakes:
    """The waits of one consumer. All but ``interrupt`` are called by one thread at a time."""

    def __init__(self, server: Server) -> None:
        self._server = server
        self._links: dict[int, Link] = {}
        self._waiting: dict[int, Link] = {}
        self._suspect: set[int] = set()
        self._poller = select.poll()
        self._ear, self._voice = socket.socketpair()
        self._ear.setblocking(False)
        self._voice.setblocking(False)
        self._poller.register(self._ear, select.POLLIN)
        self._interrupted = False
        self.silent = False
        self.landable: set[int] = set()
        """Lists from which something may have landed since ``adopted`` was last called."""
        self.landed: list[tuple[int, bytes]] = []
        """What the last ``sleep`` saw landing: list indexes and envelopes."""

    @property
    def waiting(self) -> bool:
        """Whether waits are on their way."""
        return bool(self._waiting)

    @property
    def broke(self) -> bool:
        """Whether a connection ever broke with a wait on its way, which may be served late."""
        return bool(self._suspect)

    def wait_for(self, index: int, source: str, landing: str, channel: str) -> None:
        """Let the server move the next message of ``source`` to ``landing``, and tell what comes on ``channel``.

        Does nothing where that is on its way already. Raises OperationalError, BrokerError.
        """
        if index in self._waiting:
            return
        command = pack("BLMOVE", source, landing, "RIGHT", "LEFT", LONGEST_WAIT)
        link = self._links.get(index)
        if link is None:
            link = self._links[index] = Link(self._server, self._server.connect_timeout)
            self._poller.register(link, select.POLLIN)
            if channel:
                command = pack("SUBSCRIBE", channel) + command
        self._waiting[index] = link
        self.landable.add(index)
        try:
            link.send(command)
        except OperationalError:
            self.reset()
            raise

    def sleep(self, timeout: float) -> Woken:
        """Wait up to ``timeout`` seconds; also returns when interrupted or when a wait has run out.

        Raises OperationalError when a connection broke.
        """
        deadline = time.monotonic() + timeout
        woken = Woken.NOT
        ended = False
        self.landed = []
        while woken is Woken.NOT and not ended and not self._interrupted:
            rest = deadline - time.monotonic()
            if rest <= 0:
                break
            ready = {descriptor for descriptor, _ in self._poller.poll(rest * 1000 + 0.5)}
            if self._ear.fileno() in ready and not self._interrupted:
                self._drain()
            for index, link in list(self._links.items()):
                if link.fileno() not in ready:
                    continue
                for reply in self._read(link):
                    if isinstance(reply, PushNotification):
                        hint = cast("list[bytes]", reply)[0] == b"message" and woken is Woken.NOT
                        woken = Woken.HINT if hint else woken
                        continue
                    self._waiting.pop(index, None)
                    ended = ended or reply is None
                    if isinstance(reply, bytes):
                        self.landed.append((index, reply))
                        woken = Woken.LANDED
        return woken

    def _read(self, link: Link) -> list[object]:
        try:
            replies = link.arrived()
        except OperationalError:
            self.reset()
            raise
        for reply in replies:
            if isinstance(reply, Exception):
                self.reset()
                raise OperationalError(f"Redis answered: {reply}") from reply
        return replies

    def unblock(self) -> list[bytes]:
        """Commands, for another connection, after which no wait can land anything any more; ``collect`` follows."""
        return [pack("CLIENT", "UNBLOCK", link.id) for link in self._waiting.values()]

    def collect(self) -> None:
        """Read the answers of waits that were unblocked; ``silent`` says whether there was nothing else to read."""
        self.silent = True
        for index, link in list(self._waiting.items()):
            try:
                while isinstance(link.read(), PushNotification):
                    self.silent = False
            except OperationalError:
                self.silent = False
                self.reset()
                return
            del self._waiting[index]

    def adopted(self) -> None:
        """All that had landed was adopted or given back."""
        self.landable = set(self._waiting) | self._suspect

    def interrupt(self) -> None:
        """End ``sleep`` now, or the next one at once. Any thread."""
        self._interrupted = True
        with contextlib.suppress(OSError):
            self._voice.send(b"!")

    def take_interrupt(self) -> bool:
        """Whether somebody interrupted since it was last asked."""
        if not self._interrupted:
            return False
        self._interrupted = False
        self._drain()
        return True

    def _drain(self) -> None:
        with contextlib.suppress(BlockingIOError):
            self._ear.recv(4096)

    def reset(self) -> None:
        """Drop all connections. What waits were on their way may land later, and is looked for ever after."""
        self._suspect |= self._waiting.keys()
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
