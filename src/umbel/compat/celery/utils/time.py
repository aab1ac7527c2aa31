"""``celery.utils.time``: moments, time zones, and lengths of time."""

from __future__ import annotations

import datetime
import random
import time as _time
from collections.abc import Callable
from types import ModuleType
from typing import Any

from umbel.clock import find_timezone
from umbel.limits.spec import parse_rate
from umbel.schedules.fields import weekday
from umbel.schedules.moments import delta_resolution, ffwd, humanize_seconds, later, time_between

__all__ = [
    "LocalTimezone",
    "add_seconds_to_datetime",
    "adjust_timestamp",
    "delta_resolution",
    "ffwd",
    "get_exponential_backoff_interval",
    "humanize_seconds",
    "is_naive",
    "localize",
    "make_aware",
    "maybe_iso8601",
    "maybe_make_aware",
    "maybe_timedelta",
    "rate",
    "remaining",
    "subtract_datetimes",
    "timezone",
    "to_utc",
    "utcoffset",
    "weekday",
]


class LocalTimezone(datetime.tzinfo):
    """The time zone of this machine."""

    def _local(self, dt: datetime.datetime | None) -> datetime.datetime:
        moment = dt if dt is not None else datetime.datetime.now()
        return moment.replace(tzinfo=None).astimezone()

    def utcoffset(self, dt: datetime.datetime | None) -> datetime.timedelta:
        return self._local(dt).utcoffset() or datetime.timedelta()

    def dst(self, dt: datetime.datetime | None) -> datetime.timedelta:
        local = self._local(dt).timetuple()
        stamp = _time.localtime(_time.mktime(local))
        if not stamp.tm_isdst:
            return datetime.timedelta()
        return datetime.timedelta(seconds=_time.timezone - _time.altzone)

    def tzname(self, dt: datetime.datetime | None) -> str:
        return self._local(dt).tzname() or ""

    def fromutc(self, dt: datetime.datetime) -> datetime.datetime:
        local = dt.replace(tzinfo=datetime.UTC).astimezone()
        return local.replace(tzinfo=self)

    def __repr__(self) -> str:
        return f"<LocalTimezone: UTC{-_time.timezone // 3600:+03d}>"


class _Zone:
    """Time zones by name, and moments in them."""

    utc = datetime.UTC

    def __init__(self) -> None:
        self.local: datetime.tzinfo = LocalTimezone()

    def tz_or_local(self, tzinfo: datetime.tzinfo | str | None = None) -> datetime.tzinfo:
        """The time zone that is given, or this machine's."""
        return self.local if tzinfo is None else self.get_timezone(tzinfo)

    def get_timezone(self, zone: datetime.tzinfo | str) -> datetime.tzinfo:
        """The time zone of that name. Raises ConfigurationError for an unknown one."""
        return find_timezone(zone, True)

    def to_local(
        self, dt: datetime.datetime, local: datetime.tzinfo | None = None, orig: datetime.tzinfo | None = None
    ) -> datetime.datetime:
        """A moment in ``local``, by default this machine's zone; a naive one is read in ``orig``, by default UTC."""
        if is_naive(dt):
            dt = make_aware(dt, orig or self.utc)
        return localize(dt, self.tz_or_local(local))

    def to_system(self, dt: datetime.datetime) -> datetime.datetime:
        """A moment in this machine's zone."""
        return localize(dt, self.local)

    def to_local_fallback(self, dt: datetime.datetime) -> datetime.datetime:
        """A moment in this machine's zone; a naive one is read as being in it."""
        return make_aware(dt, self.local) if is_naive(dt) else localize(dt, self.local)


timezone = _Zone()


def maybe_timedelta(delta: Any) -> Any:
    """A number of seconds as a ``timedelta``; anything else as it is."""
    return datetime.timedelta(seconds=delta) if isinstance(delta, (int, float)) else delta


def remaining(
    start: datetime.datetime,
    ends_in: datetime.timedelta | ffwd,
    now: datetime.datetime | None = None,
    relative: bool = False,
) -> datetime.timedelta:
    """Time from ``now`` until ``ends_in`` after ``start``; negative when that is in the past.

    ``relative``: until the full day, hour or minute at which that is. By default it is now in UTC.
    """
    now = now or datetime.datetime.now(datetime.UTC)
    if isinstance(ends_in, ffwd):
        end = start + ends_in
    else:
        end = start + ends_in if is_naive(start) or relative else later(start, ends_in)
        if relative:
            end = delta_resolution(end, ends_in).replace(microsecond=0)
    return subtract_datetimes(end, now)


def rate(r: Any) -> float:
    """Tasks per second of a rate such as ``"100/m"``; 0 for no limit. Raises ConfigurationError."""
    return parse_rate(r or None, "rate")


def maybe_iso8601(dt: datetime.datetime | str | None) -> datetime.datetime | None:
    """The moment that an ISO 8601 text names; a moment, and None, as it is. Raises ValueError."""
    return datetime.datetime.fromisoformat(dt) if isinstance(dt, str) else dt


def is_naive(dt: datetime.datetime) -> bool:
    """Whether a moment has no time zone."""
    return dt.tzinfo is None or dt.tzinfo.utcoffset(dt) is None


def add_seconds_to_datetime(dt: datetime.datetime, seconds: float) -> datetime.datetime:
    """The moment so many seconds of real time later."""
    delta = datetime.timedelta(seconds=seconds)
    return dt + delta if is_naive(dt) else later(dt, delta)


def subtract_datetimes(end: datetime.datetime, start: datetime.datetime) -> datetime.timedelta:
    """The time that passes from ``start`` to ``end``; if one of them is naive, it is read as UTC."""
    if is_naive(end) and is_naive(start):
        return end - start
    return time_between(to_utc(start), to_utc(end))


def make_aware(dt: datetime.datetime, tz: datetime.tzinfo) -> datetime.datetime:
    """What a clock in ``tz`` shows as a moment; of two equal ones the first."""
    return dt.replace(tzinfo=tz, fold=0)


def localize(dt: datetime.datetime, tz: datetime.tzinfo) -> datetime.datetime:
    """The moment in another time zone; a naive one is read as being in it."""
    return make_aware(dt, tz) if is_naive(dt) else dt.astimezone(tz)


def to_utc(dt: datetime.datetime) -> datetime.datetime:
    """The moment in UTC; a naive one is read as UTC."""
    return localize(dt, datetime.UTC)


def maybe_make_aware(
    dt: datetime.datetime, tz: datetime.tzinfo | str | None = None, naive_as_utc: bool = True
) -> datetime.datetime:
    """A moment that has a time zone as it is; a naive one, read as UTC or else as being in ``tz``, in ``tz``.

    By default ``tz`` is UTC.
    """
    if not is_naive(dt):
        return dt
    zone = timezone.get_timezone(tz) if tz is not None else datetime.UTC
    return localize(to_utc(dt) if naive_as_utc else dt, zone)


def utcoffset(time: ModuleType = _time, localtime: Callable[..., Any] = _time.localtime) -> float:
    """How many hours this machine's clock is behind UTC now."""
    return (time.altzone if localtime().tm_isdst else time.timezone) / 3600


def adjust_timestamp(ts: float, offset: float, here: Callable[..., float] = utcoffset) -> float:
    """A Unix time that was noted ``offset`` hours behind UTC as if it had been noted here."""
    return ts - (offset - here()) * 3600


def get_exponential_backoff_interval(factor: int, retries: int, maximum: int, full_jitter: bool = False) -> int:
    """Seconds before the next retry: ``factor * 2 ** retries``, at most ``maximum``; with ``full_jitter`` any number
    up to that."""
    pause = min(maximum, factor * 2**retries)
    return max(0, random.randrange(pause + 1) if full_jitter else pause)
