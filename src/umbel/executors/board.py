"""The board: memory that supervisor and executors share, read and written without any message.

Slot 0 holds until when the worker's lease is known to be good, and how many leases there were; then one slot per
executor with the number of the task it runs and since when. All times are ``time.monotonic`` seconds, which is one
clock for all processes of a machine.
A slot is written by one process only; aligned eight-byte stores do not tear on the platforms CPython runs on.
"""

from __future__ import annotations

import mmap
import time

_SLOT = 2


class Board:
    """Made by the supervisor before the first fork, inherited by all."""

    def __init__(self, slots: int) -> None:
        self.slots = slots
        self._memory = mmap.mmap(-1, 8 * _SLOT * (slots + 1))
        self._numbers = memoryview(self._memory).cast("Q")
        self._times = memoryview(self._memory).cast("d")

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
        """The executor in ``slot`` begins task ``number``."""
        at = _SLOT * (slot + 1)
        self._times[at + 1] = time.monotonic()
        self._numbers[at] = number

    def end(self, slot: int) -> None:
        self._numbers[_SLOT * (slot + 1)] = 0

    def running(self, slot: int) -> tuple[int, float]:
        """The number of the task that runs in ``slot`` (0: none) and when it began."""
        at = _SLOT * (slot + 1)
        return self._numbers[at], self._times[at + 1]

    def close(self) -> None:
        self._numbers.release()
        self._times.release()
        self._memory.close()
