"""The present moment as text, and time zones by their names."""

from __future__ import annotations

import datetime
import time

from umbel.errors import ConfigurationError

_second: tuple[int, str] = (0, "")


def timestamp() -> str:
    """The present moment in UTC: ISO 8601 with microseconds and offset. All up to seconds is made once a second."""
    global _second
    seconds, nanoseconds = divmod(time.time_ns(), 1_000_000_000)
    known = _second
    if known[0] != seconds:
        text = datetime.datetime.fromtimestamp(seconds, datetime.UTC).strftime("%Y-%m-%dT%H:%M:%S")
        known = _second = seconds, text
    return f"{known[1]}.{nanoseconds // 1000:06d}+00:00"


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
