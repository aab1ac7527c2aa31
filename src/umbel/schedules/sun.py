"""``solar``: runs by the sun at a place. The almanac is the library ephem: ``pip install 'umbel[solar]'``."""

from __future__ import annotations

import datetime
import importlib
from typing import TYPE_CHECKING, Any, NamedTuple

from umbel.errors import MissingExtra
from umbel.schedules.base import BaseSchedule
from umbel.schedules.fields import ParseException
from umbel.schedules.moments import time_between

if TYPE_CHECKING:
    from collections.abc import Callable

    from umbel.app import Umbel


class _Event(NamedTuple):
    """When the sun's upper edge, or its ``center``, passes ``horizon`` (degrees) by ``search`` of an observer."""

    search: str
    horizon: str
    center: bool


_SUNRISE = "-0:34"
"""The air bends light: the sun is seen to rise while it is still 34 minutes of arc below."""

EVENTS = {
    "dawn_astronomical": _Event("next_rising", "-18", True),
    "dawn_nautical": _Event("next_rising", "-12", True),
    "dawn_civil": _Event("next_rising", "-6", True),
    "sunrise": _Event("next_rising", _SUNRISE, False),
    "solar_noon": _Event("next_transit", "0", False),
    "sunset": _Event("next_setting", _SUNRISE, False),
    "dusk_civil": _Event("next_setting", "-6", True),
    "dusk_nautical": _Event("next_setting", "-12", True),
    "dusk_astronomical": _Event("next_setting", "-18", True),
}


class solar(BaseSchedule):
    """Run at each ``event`` of the sun where latitude and longitude are ``lat`` and ``lon`` (degrees, north and east).

    Events: sunrise, sunset, solar_noon; dawn and dusk as dawn_civil (the sun 6° below the horizon), dawn_nautical
    (12°), dawn_astronomical (18°), dusk_civil and so on. Where the sun does not rise or set for a while, the next run
    is when it does again. ``nowfun``, ``app``: as of BaseSchedule.

    Raises ParseException (a ValueError) for an unknown event or place, MissingExtra where ephem is not installed.
    """

    max_search_days = 366

    def __init__(
        self,
        event: str,
        lat: float,
        lon: float,
        *,
        nowfun: Callable[[], datetime.datetime] | None = None,
        app: Umbel | None = None,
    ) -> None:
        super().__init__(nowfun, app)
        if event not in EVENTS:
            raise ParseException(f"there is no solar event {event!r}; known are {', '.join(sorted(EVENTS))}")
        if not -90 <= lat <= 90:
            raise ParseException(f"a latitude is from -90 to 90 degrees, not {lat}")
        if not -180 <= lon <= 180:
            raise ParseException(f"a longitude is from -180 to 180 degrees, not {lon}")
        self.event = event
        self.lat = lat
        self.lon = lon
        _ephem()

    def next_run(self, after: datetime.datetime) -> datetime.datetime:
        """The first such event later than ``after``, in UTC. Raises OverflowError when there is none within
        ``max_search_days``."""
        ephem = _ephem()
        event = EVENTS[self.event]
        observer: Any = ephem.Observer()
        observer.lat, observer.lon = str(self.lat), str(self.lon)
        observer.elevation = observer.pressure = 0
        observer.horizon = event.horizon
        options = {} if event.search == "next_transit" else {"use_center": event.center}
        start = self.maybe_make_aware(after).astimezone(datetime.UTC).replace(tzinfo=None)
        for day in range(self.max_search_days):
            observer.date = start + datetime.timedelta(days=day)
            try:
                found = getattr(observer, event.search)(ephem.Sun(), **options)
            except ephem.CircumpolarError:
                continue
            return found.datetime().replace(tzinfo=datetime.UTC)
        raise OverflowError(f"no {self.event} at {self.lat}, {self.lon} within {self.max_search_days} days of {after}")

    def remaining_estimate(self, last_run_at: datetime.datetime) -> datetime.timedelta:
        return time_between(self.maybe_make_aware(self.now()), self.next_run(last_run_at))

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, solar):
            return NotImplemented
        return (self.event, self.lat, self.lon) == (other.event, other.lat, other.lon)

    def __hash__(self) -> int:
        return hash((self.event, self.lat, self.lon))

    def __repr__(self) -> str:
        return f"<solar: {self.event} at latitude {self.lat}, longitude: {self.lon}>"

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self.event, self.lat, self.lon)


def _ephem() -> Any:
    try:
        return importlib.import_module("ephem")
    except ModuleNotFoundError as error:
        raise MissingExtra("a solar schedule", "solar") from error
