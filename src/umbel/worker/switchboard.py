"""Where the settling thread waits: for packets from any executor, or to be woken."""

from __future__ import annotations

import selectors
import socket
import threading
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from umbel.worker.pool import ExecutorHandle


class Switchboard:
    """``wait`` belongs to one thread; everything else may be called from any."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._selector = selectors.DefaultSelector()
        self._bell, self._button = socket.socketpair()
        self._bell.setblocking(False)
        self._button.setblocking(False)
        self._rung = False
        self._selector.register(self._bell, selectors.EVENT_READ)

    def add(self, executor: ExecutorHandle) -> None:
        with self._lock:
            self._selector.register(executor.channel, selectors.EVENT_READ, executor)

    def remove(self, executor: ExecutorHandle) -> None:
        """Before its channel is closed."""
        with self._lock:
            self._selector.unregister(executor.channel)

    def ring(self) -> None:
        """Make ``wait`` return."""
        if not self._rung:
            self._rung = True
            self._button.send(b"!")

    def wait(self, timeout: float) -> list[ExecutorHandle]:
        """Executors whose packets have arrived; none after ``timeout`` seconds or when woken."""
        ready: list[ExecutorHandle] = []
        for key, _ in self._selector.select(timeout):
            if key.data is None:
                self._bell.recv(16)
                self._rung = False
            else:
                ready.append(key.data)
        return ready

    def close(self) -> None:
        self._selector.close()
        self._bell.close()
        self._button.close()
