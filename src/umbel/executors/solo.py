"""What stands in the place of the nursery where tasks run in the supervisor's own process (``solo``)."""

from __future__ import annotations

import logging
import os
import signal
import socket
import threading
from collections import deque
from collections.abc import Callable

from umbel.executors.nursery import Exited, Spawned

logger = logging.getLogger("umbel.worker.solo")

_KILLED = 9
_FAILED = 1 << 8


class Solo:
    """Runs executors in threads; as ``Nursery`` for whoever starts and stops them.

    A thread cannot be killed: it is left to itself, and what it reports is not heard any more.
    """

    def __init__(self, body: Callable[..., None]) -> None:
        self._body = body
        self._bell, self._button = socket.socketpair()
        self._bell.setblocking(False)
        self._news: deque[Spawned | Exited] = deque()
        self._last = 0
        self._running: set[int] = set()

    def fileno(self) -> int:
        return self._bell.fileno()

    def spawn(self, slot: int, *fds: int) -> None:
        """Start a thread in which ``body(slot, *fds)`` runs; ``fds`` are duplicated for it. Its "pid" is a number of
        its own, below any process id."""
        self._last -= 1
        self._running.add(self._last)
        self._tell(Spawned(slot, self._last))
        own = [os.dup(fd) for fd in fds]
        thread = threading.Thread(target=self._run, args=(self._last, slot, *own), name="umbel-solo", daemon=True)
        thread.start()

    def news(self) -> list[Spawned | Exited]:
        try:
            self._bell.recv(4096)
        except BlockingIOError:
            return []
        found: list[Spawned | Exited] = []
        while self._news:
            found.append(self._news.popleft())
        return found

    def kill(self, pid: int, number: int = signal.SIGKILL) -> None:
        if pid in self._running:
            self._running.discard(pid)
            self._tell(Exited(pid, _KILLED))

    def close(self) -> None:
        self._running.clear()
        self._bell.close()
        self._button.close()

    def _run(self, pid: int, slot: int, *fds: int) -> None:
        status = _FAILED
        try:
            self._body(slot, *fds)
            status = 0
        except BaseException:
            if pid in self._running:
                logger.exception("the lane failed")
        if pid in self._running:
            self._running.discard(pid)
            self._tell(Exited(pid, status))

    def _tell(self, news: Spawned | Exited) -> None:
        self._news.append(news)
        self._button.send(b"!")
