"""A clock that stands still until it is moved, for delays, retries, expiry and rate limits in tests."""

from __future__ import annotations

import datetime
import time
from contextlib import ExitStack
from typing import Self

from umbel.clock import use_clock
from umbel.errors import UmbelError

_in_use: list[VirtualClock] = []


class VirtualClock:
    """Umbel's clock inside a ``with`` block: when tasks are due, when they expire, what rate limits allow, what results
    say of when they were done.

    ``start``: Unix time in seconds or an aware ``datetime``; by default the present moment. Only Umbel goes by it:
    ``time.time()`` and ``time.sleep()`` are as ever. One at a time in a process; the same one may be entered again.
    """

    def __init__(self, start: float | datetime.datetime | None = None) -> None:
        if isinstance(start, datetime.datetime):
            start = start.timestamp()
        self._time = round(time.time(), 3) if start is None else float(start)
        self._monotonic = time.monotonic()
        self._entered: list[ExitStack] = []

    def time(self) -> float:
        """Unix time in seconds."""
        return self._time

    def monotonic(self) -> float:
        """Seconds since some moment."""
        return self._monotonic

    def now(self) -> datetime.datetime:
        """The moment in UTC."""
        return datetime.datetime.fromtimestamp(self._time, datetime.UTC)

    def advance(self, seconds: float) -> None:
        """Move on by so many seconds. Raises ValueError for less than none."""
        if seconds < 0:
            raise ValueError(f"a clock does not go back: {seconds} s")
        self._time += seconds
        self._monotonic += seconds

    def move_to(self, moment: float) -> None:
        """Move on to this Unix time in seconds; nothing happens when it has passed."""
        if moment > self._time:
            self._monotonic += moment - self._time
            self._time = moment

    def __enter__(self) -> Self:
        if _in_use and _in_use[-1] is not self:
            raise UmbelError("another virtual clock is in use in this process; use that one: clock=")
        stack = ExitStack()
        stack.enter_context(use_clock(self))
        self._entered.append(stack)
        _in_use.append(self)
        return self

    def __exit__(self, *exc: object) -> None:
        _in_use.pop()
        self._entered.pop().close()

    def __repr__(self) -> str:
        return f"<VirtualClock {self.now().isoformat()}>"
