"""The board: memory that supervisor and executors share, read and written without any message.

Slot 0 holds until when the worker's lease is known to be good, and how many leases there were; then one slot for
each lane with the number of the task it runs and since when. All times are ``time.monotonic`` seconds, which is one
clock for all processes of a machine.
A slot is written by one process only; aligned eight-byte stores do not tear on the platforms CPython runs on.
"""

from __future__ import annotations

import mmap
import os
import tempfile
import time

_SLOT = 2


class Board:
    """Made by the supervisor before the first fork, inherited by all; another program opens it by its descriptor."""

    def __init__(self, slots: int, fd: int | None = None) -> None:
        self.slots = slots
        size = 8 * _SLOT * (slots + 1)
        self._fd = _new_memory(size) if fd is None else fd
        self._memory = mmap.mmap(self._fd, size)
        self._numbers = memoryview(self._memory).cast("Q")
        self._times = memoryview(self._memory).cast("d")

    def fileno(self) -> int:
        return self._fd

    @property
    def lease_end(self) -> float:
        return self._times[0]

    @lease_end.setter
    def lease_end(self, moment: float) -> None:
        self._times[0] = moment

    @property
    def lease_number(self) -> int:
        """Changes when a lease was lost and a new one has begun."""
        return self._numbers[1]

    def begin_lease(self) -> None:
        """Count a new lease; to be called before its ``lease_end`` is written."""
        self._numbers[1] += 1

    def lease_is_good(self) -> bool:
        return time.monotonic() < self._times[0]

    def begin(self, slot: int, number: int) -> None:
        """The lane of ``slot`` begins task ``number``."""
        at = _SLOT * (slot + 1)
        self._times[at + 1] = time.monotonic()
        self._numbers[at] = number

    def end(self, slot: int) -> None:
        self._numbers[_SLOT * (slot + 1)] = 0

    def running(self, slot: int) -> tuple[int, float]:
        """The number of the task that the lane of ``slot`` runs (0: none) and when it began."""
        at = _SLOT * (slot + 1)
        return self._numbers[at], self._times[at + 1]

    def close(self) -> None:
        self._numbers.release()
        self._times.release()
        self._memory.close()
        os.close(self._fd)


def _new_memory(size: int) -> int:
    if hasattr(os, "memfd_create"):
        fd = os.memfd_create("umbel-board", os.MFD_CLOEXEC)
    else:
        fd, path = tempfile.mkstemp(prefix="umbel-board-")
        os.unlink(path)
    os.ftruncate(fd, size)
    return fd
