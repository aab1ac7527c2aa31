"""``crontab``: runs by the clock and the calendar."""

from __future__ import annotations

import datetime
from typing import TYPE_CHECKING, Any

from umbel.schedules.base import BaseSchedule, schedstate
from umbel.schedules.calendar import Fields, next_run
from umbel.schedules.fields import Cronspec, ParseException, expand
from umbel.schedules.moments import ffwd as _ffwd
from umbel.schedules.moments import time_between

if TYPE_CHECKING:
    from collections.abc import Callable

    from umbel.app import Umbel

_MOMENT = datetime.timedelta(microseconds=1)


class crontab(BaseSchedule):
    """Run in every minute that has all of these fields; both days of the week and of the month must fit.

    Each field is a number, several numbers, or a pattern (see ``crontab_parser``). ``minute`` 0–59, ``hour`` 0–23,
    ``day_of_week`` 0–6 from Sunday on or names, ``day_of_month`` 1–31, ``month_of_year`` 1–12 or names. ``timezone``
    (``tzinfo`` or name): in which the clock is read, by default the application's. ``nowfun``, ``app``: as of
    BaseSchedule. How turned clocks are treated: ``umbel.schedules.calendar``.

    Raises ParseException for patterns and values that are wrong, and for days that none of the months has; TypeError
    for what is no field; ConfigurationError for an unknown time zone.
    """

    def __init__(
        self,
        minute: Cronspec = "*",
        hour: Cronspec = "*",
        day_of_week: Cronspec = "*",
        day_of_month: Cronspec = "*",
        month_of_year: Cronspec = "*",
        *,
        nowfun: Callable[[], datetime.datetime] | None = None,
        app: Umbel | None = None,
        timezone: str | datetime.tzinfo | None = None,
    ) -> None:
        super().__init__(nowfun, app, timezone)
        self._zone = timezone
        self._orig_minute = minute
        self._orig_hour = hour
        self._orig_day_of_week = day_of_week
        self._orig_day_of_month = day_of_month
        self._orig_month_of_year = month_of_year
        self.minute = expand(minute, 60, 0, "minute")
        self.hour = expand(hour, 24, 0, "hour")
        self.day_of_week = expand(day_of_week, 7, 0, "day_of_week")
        self.day_of_month = expand(day_of_month, 31, 1, "day_of_month")
        self.month_of_year = expand(month_of_year, 12, 1, "month_of_year")
        if not self._fields().has_days():
            raise ParseException(f"no month in {month_of_year!r} has a day in {day_of_month!r}: this would never run")

    @classmethod
    def from_string(cls, crontab: str) -> crontab:
        """A crontab of five fields as cron has them: minute, hour, day of month, month, day of week.

        Raises ParseException.
        """
        fields = crontab.split()
        if len(fields) != 5:
            raise ParseException(f"{crontab!r} is no crontab: it has {len(fields)} fields, not 5")
        minute, hour, day_of_month, month_of_year, day_of_week = fields
        return cls(minute, hour, day_of_week, day_of_month, month_of_year)

    def _fields(self) -> Fields:
        return Fields(
            tuple(sorted(self.minute)),
            tuple(sorted(self.hour)),
            frozenset(self.day_of_week),
            tuple(sorted(self.day_of_month)),
            tuple(sorted(self.month_of_year)),
        )

    def next_run(self, after: datetime.datetime) -> datetime.datetime:
        """The first run later than ``after``, in the schedule's time zone."""
        return next_run(self._fields(), self.maybe_make_aware(after), self.tz)

    def remaining_delta(
        self, last_run_at: datetime.datetime, tz: str | datetime.tzinfo | None = None, ffwd: type[Any] = _ffwd
    ) -> tuple[datetime.datetime, Any, datetime.datetime]:
        """``(last_run_at, jump, now)`` in the schedule's time zone; the sum of the first two is the next run.

        ``tz`` has no effect. A run in the second of two equal hours cannot be told from the first this way.
        """
        run = self.next_run(last_run_at)
        jump = ffwd(run.year, run.month, day=run.day, hour=run.hour, minute=run.minute, second=0, microsecond=0)
        return self.to_local(last_run_at), jump, self.to_local(self.now())

    def remaining_estimate(self, last_run_at: datetime.datetime, ffwd: type[Any] = _ffwd) -> datetime.timedelta:
        """Time from now to the next run after ``last_run_at``; negative when that is in the past.

        ``ffwd`` has no effect.
        """
        return time_between(self.maybe_make_aware(self.now()), self.next_run(last_run_at))

    def is_due(self, last_run_at: datetime.datetime) -> tuple[bool, float]:
        """Whether to run now, and in how many seconds to ask again, as a ``schedstate``.

        A run that was missed is made up for, unless it is more than ``beat_cron_starting_deadline`` seconds ago.
        """
        now = self.maybe_make_aware(self.now())
        last = self.maybe_make_aware(last_run_at)
        deadline = self.app.conf.beat_cron_starting_deadline
        if deadline is not None:
            last = max(last, now - datetime.timedelta(seconds=deadline) - _MOMENT)
        left = time_between(now, self.next_run(last)).total_seconds()
        if left > 0:
            return schedstate(False, left)
        return schedstate(True, max(time_between(now, self.next_run(now)).total_seconds(), 0.0))

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, crontab):
            return NotImplemented
        return self._fields() == other._fields() and self._zone == other._zone

    def __hash__(self) -> int:
        return hash((self._fields(), self._zone))

    def __repr__(self) -> str:
        day_of_month, month_of_year = self._orig_day_of_month, self._orig_month_of_year
        fields = (self._orig_minute, self._orig_hour, day_of_month, month_of_year, self._orig_day_of_week)
        zone = f" {self._zone}" if self._zone is not None else ""
        return f"<crontab: {' '.join(map(str, fields))} (m/h/dM/MY/d){zone}>"

    def __reduce__(self) -> tuple[Any, ...]:
        fields = (self._orig_minute, self._orig_hour, self._orig_day_of_week)
        days = (self._orig_day_of_month, self._orig_month_of_year)
        state = {"_zone": self._zone, "_tz": self._tz} if self._zone is not None else None
        return type(self), (*fields, *days), state
