"""The next moment whose minute, hour, day, weekday and month are among given ones.

Clocks are turned. An hour that is skipped, or that comes twice, is treated as people who write ``hour=2`` expect:

- A schedule for certain hours runs once for each time of day that it names: at the first of two equal times, and what
  falls into a skipped hour runs that much later.
- A schedule for every hour follows the clock on the wall: it runs in both of two equal hours and in no skipped one.
"""

from __future__ import annotations

import calendar
import datetime
from collections.abc import Iterator
from typing import NamedTuple

_LOOK = datetime.timedelta(hours=25)
"""Longer than any turn of a clock: when Samoa left out a day, it was 24 hours."""

_MINUTE = datetime.timedelta(minutes=1)
_YEARS = 41
"""A certain weekday falls on February 29 every 28 years, or after 40 where a century's last year is no leap year."""


class Fields(NamedTuple):
    """The values of each field, sorted. Weekdays: 0 is Sunday."""

    minutes: tuple[int, ...]
    hours: tuple[int, ...]
    weekdays: frozenset[int]
    days: tuple[int, ...]
    months: tuple[int, ...]

    def has_days(self) -> bool:
        """Whether any of the months has any of the days."""
        return any(self.days[0] <= (29 if month == 2 else calendar.monthrange(2001, month)[1]) for month in self.months)


def next_run(fields: Fields, after: datetime.datetime, zone: datetime.tzinfo) -> datetime.datetime:
    """The first run after ``after`` (which has a time zone), in ``zone``. Raises OverflowError past the year 9999."""
    utc = after.astimezone(datetime.UTC)
    best: datetime.datetime | None = None
    for wall in _walls(fields, _earliest_wall(utc, zone)):
        first = wall.replace(tzinfo=zone)
        at = first.astimezone(datetime.UTC)
        exists = at.astimezone(zone).replace(tzinfo=None) == wall
        for run in _runs(fields, first, at, exists):
            if run > utc and (best is None or run < best):
                best = run
        if exists and at > utc:
            break
    if best is None:
        raise OverflowError(f"no day within {_YEARS} years of {after} has all fields of {fields}")
    return best.astimezone(zone)


def _earliest_wall(utc: datetime.datetime, zone: datetime.tzinfo) -> datetime.datetime:
    """Clocks show no later than this when the next run after ``utc`` comes, however they are turned about then."""
    offsets = [(utc + shift).astimezone(zone).utcoffset() for shift in (-_LOOK, datetime.timedelta(), _LOOK)]
    return utc.replace(tzinfo=None) + min(offset for offset in offsets if offset is not None)


def _runs(fields: Fields, first: datetime.datetime, at: datetime.datetime, exists: bool) -> Iterator[datetime.datetime]:
    """When to run, in UTC, for the time of day ``first``, which is ``at`` before clocks are turned."""
    every_hour = len(fields.hours) == 24
    if exists or not every_hour:
        yield at
    if every_hour and exists:
        yield first.replace(fold=1).astimezone(datetime.UTC)


def _walls(fields: Fields, after: datetime.datetime) -> Iterator[datetime.datetime]:
    """The matching times of day, without time zone, in the minutes after that of ``after``."""
    start = after.replace(second=0, microsecond=0) + _MINUTE
    for day in _days(fields, start.date()):
        begin = start.time() if day == start.date() else datetime.time.min
        for hour in fields.hours:
            if hour < begin.hour:
                continue
            for minute in fields.minutes:
                if hour > begin.hour or minute >= begin.minute:
                    yield datetime.datetime(day.year, day.month, day.day, hour, minute)


def _days(fields: Fields, first: datetime.date) -> Iterator[datetime.date]:
    for year in range(first.year, min(first.year + _YEARS, datetime.MAXYEAR + 1)):
        for month in fields.months:
            length = calendar.monthrange(year, month)[1]
            for number in fields.days:
                if number <= length:
                    day = datetime.date(year, month, number)
                    if day >= first and day.isoweekday() % 7 in fields.weekdays:
                        yield day
