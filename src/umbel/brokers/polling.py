"""``poll(2)`` for drivers, also where eventlet has taken it away: its own ``select`` lets other greenlets run."""

from __future__ import annotations

import select
from typing import Protocol


class HasFileno(Protocol):
    def fileno(self) -> int: ...


class Poll(Protocol):
    """As ``select.poll()``, for one descriptor."""

    def register(self, fd: HasFileno, eventmask: int, /) -> None: ...

    def poll(self, timeout: float, /) -> object:
        """True if it is ready within ``timeout`` milliseconds."""
        ...


class SelectPoll:
    """A ``Poll`` by ``select(2)``."""

    def __init__(self) -> None:
        self._read: list[int] = []
        self._write: list[int] = []

    def register(self, fd: HasFileno, eventmask: int, /) -> None:
        if eventmask & select.POLLIN:
            self._read.append(fd.fileno())
        if eventmask & select.POLLOUT:
            self._write.append(fd.fileno())

    def poll(self, timeout: float, /) -> object:
        readable, writable, _ = select.select(self._read, self._write, [], timeout / 1000)
        return readable + writable


def new_poll() -> Poll:
    """A ``select.poll()``, or what stands for it."""
    return select.poll() if hasattr(select, "poll") else SelectPoll()
