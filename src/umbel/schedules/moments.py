"""Arithmetic with moments that have a time zone, and lengths of time as text.

Python subtracts and adds by the clock on the wall where both moments have the same zone; what is done here goes by UTC,
so that hours which the clocks skip or repeat are counted as they pass.
"""

from __future__ import annotations

import calendar
import datetime
from typing import Any

UNITS = ((86400.0, "day"), (3600.0, "hour"), (60.0, "minute"), (1.0, "second"))


def later(moment: datetime.datetime, delta: datetime.timedelta) -> datetime.datetime:
    """The moment that is ``delta`` of real time after ``moment``, in the same zone."""
    return (moment.astimezone(datetime.UTC) + delta).astimezone(moment.tzinfo)


def time_between(start: datetime.datetime, end: datetime.datetime) -> datetime.timedelta:
    """How much time passes from ``start`` to ``end``; both have a time zone."""
    return end.astimezone(datetime.UTC) - start.astimezone(datetime.UTC)


def delta_resolution(dt: datetime.datetime, delta: datetime.timedelta) -> datetime.datetime:
    """``dt`` cut to the day, hour or minute, whichever is the largest unit in ``delta``; as it is for less."""
    if delta >= datetime.timedelta(days=1):
        return dt.replace(hour=0, minute=0, second=0, microsecond=0)
    if delta >= datetime.timedelta(hours=1):
        return dt.replace(minute=0, second=0, microsecond=0)
    if delta >= datetime.timedelta(minutes=1):
        return dt.replace(second=0, microsecond=0)
    return dt


def humanize_seconds(secs: float, prefix: str = "", sep: str = "", now: str = "now", microseconds: bool = False) -> str:
    """``secs`` in the largest unit of which there is one: ``2.50 hours``; below a second ``now``, or the number with
    ``microseconds``."""
    secs = float(secs)
    for size, unit in UNITS:
        if secs >= size:
            count = secs / size
            return f"{prefix}{sep}{count:.2f} {unit}{'' if count == 1.0 else 's'}"
    if microseconds and secs > 0.0:
        return f"{prefix}{sep}{secs:.2f} seconds"
    return now


class ffwd:
    """A jump in time: ``moment + ffwd(day=1, hour=0)`` sets the fields that are given, then goes on to ``weekday``
    (0 is Monday) and by ``weeks``. A day that the month does not have becomes its last."""

    def __init__(
        self,
        year: int | None = None,
        month: int | None = None,
        weeks: int = 0,
        weekday: int | None = None,
        day: int | None = None,
        hour: int | None = None,
        minute: int | None = None,
        second: int | None = None,
        microsecond: int | None = None,
        **kwargs: Any,
    ) -> None:
        """Other arguments have no effect."""
        self.year = year
        self.month = month
        self.weeks = weeks
        self.weekday = weekday
        self.day = day
        self.hour = hour
        self.minute = minute
        self.second = second
        self.microsecond = microsecond
        self.days = weeks * 7

    def __repr__(self) -> str:
        names = ("year", "month", "weeks", "weekday", "day", "hour", "minute", "second", "microsecond")
        given = [f"{name}={getattr(self, name)}" for name in names if getattr(self, name)]
        return f"ffwd({', '.join(given)})"

    def __radd__(self, other: object) -> datetime.datetime:
        if not isinstance(other, datetime.datetime):
            return NotImplemented
        year, month = self.year or other.year, self.month or other.month
        day = min(calendar.monthrange(year, month)[1], self.day or other.day)
        moved = other.replace(
            year=year,
            month=month,
            day=day,
            hour=other.hour if self.hour is None else self.hour,
            minute=other.minute if self.minute is None else self.minute,
            second=other.second if self.second is None else self.second,
            microsecond=other.microsecond if self.microsecond is None else self.microsecond,
        )
        if self.weekday is not None:
            moved += datetime.timedelta(days=(self.weekday - moved.weekday()) % 7)
        return moved + datetime.timedelta(days=self.days)

    __add__ = __radd__
