"""What all schedules have in common: a clock, a time zone, and the answer ``schedstate``."""

from __future__ import annotations

import datetime
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, NamedTuple

from umbel.clock import find_timezone
from umbel.current import get_current_app

if TYPE_CHECKING:
    from umbel.app import Umbel


class schedstate(NamedTuple):
    """The answer of ``is_due``: whether to run now, and in how many seconds to ask again."""

    is_due: bool
    next: float


class BaseSchedule:
    """Base of all schedules.

    ``nowfun``: returns the present moment, by default the application's ``now``; naive moments are read as UTC, here
    and everywhere. ``app``: by default the current application. ``timezone``: a ``tzinfo`` or name, by default the
    application's. Raises ConfigurationError for an unknown time zone.
    """

    _tz: datetime.tzinfo | None = None

    def __init__(
        self,
        nowfun: Callable[[], datetime.datetime] | None = None,
        app: Umbel | None = None,
        timezone: str | datetime.tzinfo | None = None,
    ) -> None:
        self.nowfun = nowfun
        self._app = app
        if timezone is not None:
            self._tz = find_timezone(timezone, True)

    @property
    def app(self) -> Umbel:
        return self._app or get_current_app()

    @app.setter
    def app(self, app: Umbel | None) -> None:
        self._app = app

    @property
    def tz(self) -> datetime.tzinfo:
        """The time zone in which the schedule is meant."""
        return self._tz or self.app.timezone

    @tz.setter
    def tz(self, tz: datetime.tzinfo | None) -> None:
        self._tz = tz

    @property
    def utc_enabled(self) -> bool:
        """The application's ``enable_utc``."""
        return self.app.conf.enable_utc

    def now(self) -> datetime.datetime:
        return (self.nowfun or self.app.now)()

    def maybe_make_aware(self, dt: datetime.datetime, naive_as_utc: bool = True) -> datetime.datetime:
        """``dt`` if it has a time zone; otherwise the same moment in the schedule's, read as UTC or as local time."""
        if dt.tzinfo is not None:
            return dt
        return dt.replace(tzinfo=datetime.UTC).astimezone(self.tz) if naive_as_utc else dt.replace(tzinfo=self.tz)

    def to_local(self, dt: datetime.datetime) -> datetime.datetime:
        """``dt`` in the schedule's time zone."""
        return self.maybe_make_aware(dt).astimezone(self.tz)

    def remaining_estimate(self, last_run_at: datetime.datetime) -> datetime.timedelta:
        """Override: time from now to the next run after ``last_run_at``; negative when that is in the past."""
        raise NotImplementedError(f"{type(self).__name__} has no remaining_estimate()")

    def is_due(self, last_run_at: datetime.datetime) -> tuple[bool, float]:
        """Whether to run now, and in how many seconds to ask again, as a ``schedstate``."""
        left = self.remaining_estimate(last_run_at).total_seconds()
        if left > 0:
            return schedstate(False, left)
        return schedstate(True, max(self.remaining_estimate(self.now()).total_seconds(), 0.0))


def maybe_schedule(s: Any, relative: bool = False, app: Umbel | None = None) -> Any:
    """A number of seconds or a ``timedelta`` as a ``schedule``; any schedule as it is, with ``app`` if that is given.

    None stays None.
    """
    if isinstance(s, (int, float)):
        s = datetime.timedelta(seconds=s)
    if isinstance(s, datetime.timedelta):
        from umbel.schedules.interval import schedule

        return schedule(s, relative, app=app)
    if s is not None and app is not None:
        s.app = app
    return s
