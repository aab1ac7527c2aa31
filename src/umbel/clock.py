"""The clock by which Umbel judges what is due, the present moment as text, and time zones by their names.

Whether a task is due or expired, and what a rate limit allows, is asked of ``now`` and ``monotonic`` here, so that
tests can put another clock in their place (``umbel.testing.VirtualClock``). Waiting and leases go by ``time`` itself.
"""

from __future__ import annotations

import datetime
import time
from collections.abc import Generator
from contextlib import contextmanager
from typing import Protocol

from umbel.errors import ConfigurationError


class Clock(Protocol):
    """What tells the time."""

    def time(self) -> float:
        """Unix time in seconds."""
        ...

    def monotonic(self) -> float:
        """Seconds since some moment; never goes back."""
        ...


_time = time.time
_monotonic = time.monotonic


def now() -> float:
    """Unix time in seconds. The one clock by which etas and expiries are judged."""
    return _time()


def monotonic() -> float:
    """Seconds by which rates are limited, and after which what is kept in memory expires."""
    return _monotonic()


@contextmanager
def use_clock(clock: Clock) -> Generator[None]:
    """Go by ``clock`` meanwhile, in all threads of this process."""
    global _time, _monotonic
    before = _time, _monotonic
    _time, _monotonic = clock.time, clock.monotonic
    try:
        yield
    finally:
        _time, _monotonic = before


_second: tuple[int, str] = (0, "")


def timestamp() -> str:
    """The present moment in UTC: ISO 8601 with microseconds and offset. All up to seconds is made once a second."""
    global _second
    seconds, microseconds = divmod(int(_time() * 1_000_000), 1_000_000)
    known = _second
    if known[0] != seconds:
        text = datetime.datetime.fromtimestamp(seconds, datetime.UTC).strftime("%Y-%m-%dT%H:%M:%S")
        known = _second = seconds, text
    return f"{known[1]}.{microseconds:06d}+00:00"


def find_timezone(zone: str | datetime.tzinfo | None, enable_utc: bool) -> datetime.tzinfo:
    """The zone of the setting ``timezone``; without one UTC or, if ``enable_utc`` is off, the local zone.

    Raises ConfigurationError for an unknown name.
    """
    if isinstance(zone, datetime.tzinfo):
        return zone
    if zone is None:
        local = datetime.datetime.now().astimezone().tzinfo
        return datetime.UTC if enable_utc or local is None else local
    if zone.upper() == "UTC":
        return datetime.UTC
    import zoneinfo

    try:
        return zoneinfo.ZoneInfo(zone)
    except (zoneinfo.ZoneInfoNotFoundError, ValueError) as error:
        raise ConfigurationError(f"timezone {zone!r} is not known on this system") from error
