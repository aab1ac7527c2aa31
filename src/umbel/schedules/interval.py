"""``schedule``: a run every so often."""

from __future__ import annotations

import datetime
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from umbel.errors import ConfigurationError
from umbel.schedules.base import BaseSchedule, schedstate
from umbel.schedules.moments import delta_resolution, humanize_seconds, later, time_between

if TYPE_CHECKING:
    from umbel.app import Umbel


class schedule(BaseSchedule):
    """Run every ``run_every``: seconds or a ``timedelta``, of real time whatever the clocks do.

    ``relative``: at full days, hours or minutes, whichever is the unit of ``run_every``: a schedule of one hour that
    was made at half past runs at the full hour. Raises ConfigurationError without ``run_every``.
    """

    def __init__(
        self,
        run_every: float | datetime.timedelta | None = None,
        relative: bool = False,
        nowfun: Callable[[], datetime.datetime] | None = None,
        app: Umbel | None = None,
    ) -> None:
        super().__init__(nowfun, app)
        if run_every is None:
            raise ConfigurationError("a schedule needs run_every: seconds or a timedelta")
        self.run_every = (
            run_every if isinstance(run_every, datetime.timedelta) else datetime.timedelta(seconds=run_every)
        )
        self.relative = relative

    @property
    def seconds(self) -> float:
        """Length of the interval; 0 for a negative one."""
        return max(self.run_every.total_seconds(), 0.0)

    @property
    def human_seconds(self) -> str:
        """The interval in its largest unit: ``1.00 minute``."""
        return humanize_seconds(self.seconds)

    def remaining_estimate(self, last_run_at: datetime.datetime) -> datetime.timedelta:
        last, now = self.maybe_make_aware(last_run_at), self.maybe_make_aware(self.now())
        if not self.relative:
            return time_between(now, later(last, self.run_every))
        end = delta_resolution(self.to_local(last) + self.run_every, self.run_every)
        return time_between(now, end.replace(microsecond=0))

    def is_due(self, last_run_at: datetime.datetime) -> tuple[bool, float]:
        left = self.remaining_estimate(last_run_at).total_seconds()
        if left > 0:
            return schedstate(False, left)
        following = self.remaining_estimate(self.now()).total_seconds() if self.relative else self.seconds
        return schedstate(True, max(following, 0.0))

    def __eq__(self, other: object) -> bool:
        if isinstance(other, schedule):
            return self.run_every == other.run_every
        if isinstance(other, BaseSchedule):
            return False
        return self.run_every == other

    def __hash__(self) -> int:
        return hash(self.run_every)

    def __repr__(self) -> str:
        return f"<freq: {self.human_seconds}>"

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self.run_every, self.relative, self.nowfun)
