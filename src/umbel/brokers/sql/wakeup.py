"""How a thread that has nothing to do learns that the database has changed: one :class:`Waiter` per thread.

PostgreSQL notifies. SQLite's write-ahead log is watched by inotify where the system has it, which costs nothing while
nothing happens; an event is confirmed by ``PRAGMA data_version``, which is also what is polled elsewhere. MySQL can
only be asked again and again.
"""

from __future__ import annotations

import ctypes
import os
import select
import socket
import sys
import time
from collections import deque
from collections.abc import Iterator
from typing import Any

from umbel.brokers.sql.database import Link

_BEFORE_COMMIT = (*[0.001] * 8, *[0.01] * 9, *[0.05] * 10)
"""Seconds between looks after the log was written to and nothing has changed yet: the commit follows its last write by
one fsync, which takes half a millisecond or, on a busy disk, half a second."""
_AFTER_COMMIT = (0.003, 0.02, 0.08)
"""The same after a change: what was written may also have been the beginning of the next commit."""
_UNWATCHED_PAUSE = 0.012
_SAFETY_PAUSE = 0.5
_MYSQL_PAUSES = (0.005, 0.1)
_IN_MODIFY = 0x2


class Bell:
    """Something that any thread can ring and a poll can wait for."""

    def __init__(self) -> None:
        self._ear, self._clapper = socket.socketpair()
        self._ear.setblocking(False)
        self._clapper.setblocking(False)

    def fileno(self) -> int:
        return self._ear.fileno()

    def ring(self) -> None:
        try:
            self._clapper.send(b"!")
        except BlockingIOError:
            return  # rung so often already that it will be heard

    def silence(self) -> bool:
        """Whether it had rung; it no longer does."""
        try:
            return bool(self._ear.recv(4096))
        except BlockingIOError:
            return False

    def close(self) -> None:
        self._ear.close()
        self._clapper.close()


class Waiter:
    """Waits on a link. ``arm`` before looking at the tables, ``wait`` when there was nothing: no change in between is
    missed. This class polls with back-off; the others know better."""

    def __init__(self, link: Link, bell: Bell) -> None:
        self.link = link
        self.bell = bell
        self._pause = _MYSQL_PAUSES[0]

    def arm(self) -> None:
        """Take note of how things stand."""

    def busy(self) -> None:
        """Work was found: the next wait begins with short pauses."""
        self._pause = _MYSQL_PAUSES[0]

    def wait(self, timeout: float) -> list[str]:
        """Return on a change, a ring of the bell, or after ``timeout`` seconds; what a notification said, if any."""
        self._poll([self.bell], min(timeout, self._pause))
        self._pause = min(self._pause * 1.5, _MYSQL_PAUSES[1])
        return []

    @staticmethod
    def _poll(sources: list[Any], timeout: float) -> list[int]:
        poll = select.poll()
        for source in sources:
            poll.register(source, select.POLLIN)
        return [descriptor for descriptor, _ in poll.poll(max(0.0, timeout) * 1000)]

    def deafen(self) -> None:
        """There is more work than time: no need to be told of any until the next ``arm``."""

    def close(self) -> None:
        """Give back what is not the link's."""


class SQLiteWaiter(Waiter):
    """Watches the write-ahead log."""

    def __init__(self, link: Link, bell: Bell) -> None:
        super().__init__(link, bell)
        self._watch = _watch_file(str(link.database.url.database) + "-wal")
        self._version = 0
        self._pauses: Iterator[float] = iter(())

    def arm(self) -> None:
        self._changed()

    def wait(self, timeout: float) -> list[str]:
        deadline = time.monotonic() + timeout
        sources = [self.bell] if self._watch is None else [self.bell, self._watch]
        while not self._changed():
            rest = deadline - time.monotonic()
            if rest <= 0 or self.bell.fileno() in self._poll(sources, min(rest, self._next_look())):
                break
        return []

    def _changed(self) -> bool:
        """Whether others have committed since the last call."""
        written = self._written()
        before, self._version = self._version, self.link.value("PRAGMA data_version")
        changed = self._version != before
        if written or changed:
            self._pauses = iter(_AFTER_COMMIT if changed else _BEFORE_COMMIT) if written else iter(())
        return changed

    def _written(self) -> bool:
        """Whether the log was written to since the last call: by the commit seen next, or by one still on its way."""
        try:
            return self._watch is not None and bool(os.read(self._watch, 65536))
        except BlockingIOError:
            return False

    def _next_look(self) -> float:
        return _UNWATCHED_PAUSE if self._watch is None else next(self._pauses, _SAFETY_PAUSE)

    def close(self) -> None:
        if self._watch is not None:
            os.close(self._watch)
            self._watch = None


def _watch_file(path: str) -> int | None:
    """A descriptor that is readable after ``path`` was written to; None where there is no inotify (left)."""
    if not sys.platform.startswith("linux"):
        return None
    libc = ctypes.CDLL(None, use_errno=True)
    descriptor = libc.inotify_init1(os.O_NONBLOCK | os.O_CLOEXEC)
    if descriptor < 0:
        return None
    if libc.inotify_add_watch(descriptor, os.fsencode(path), _IN_MODIFY) < 0:
        os.close(descriptor)
        return None
    return descriptor


class PostgreSQLWaiter(Waiter):
    """Listens to one channel, from the first ``arm`` on until ``deafen``."""

    def __init__(self, link: Link, bell: Bell, channel: str) -> None:
        super().__init__(link, bell)
        self._channel = channel
        self._heard: deque[str] = deque()
        self._listening = False
        link.driver.add_notify_handler(self._hear)

    def _hear(self, notify: Any) -> None:
        self._heard.append(notify.payload)

    def arm(self) -> None:
        if not self._listening:
            self.link.run(f'LISTEN "{self._channel}"')
            self._listening = True
        self._heard.clear()

    def deafen(self) -> None:
        if self._listening:
            self.link.run(f'UNLISTEN "{self._channel}"')
            self._listening = False
            self._heard.clear()

    def wait(self, timeout: float) -> list[str]:
        if not self._heard:
            session = self.link.driver.pgconn
            self._poll([self.bell, session.socket], timeout)
            try:
                session.consume_input()
                while (notify := session.notifies()) is not None:
                    self._heard.append(notify.extra.decode())
            except Exception as error:
                raise self.link.database.fault(error) from error
        heard = list(self._heard)
        self._heard.clear()
        return heard

    def close(self) -> None:
        self.link.driver.remove_notify_handler(self._hear)


def waiter_on(link: Link, bell: Bell, channel: str) -> Waiter:
    """The waiter for the link's system. Ringing ``bell`` ends a wait; ``channel`` is what a system that notifies is
    listened to on."""
    if link.database.kind == "postgresql":
        return PostgreSQLWaiter(link, bell, channel)
    if link.database.kind == "sqlite":
        return SQLiteWaiter(link, bell)
    return Waiter(link, bell)
