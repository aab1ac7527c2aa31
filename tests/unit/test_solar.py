"""Schedules by the sun, against an almanac's known times."""

from __future__ import annotations

import datetime
import pickle
import sys
from typing import Any

import pytest

from umbel import Umbel
from umbel.errors import MissingExtra
from umbel.schedules import ParseException, solar

UTC = datetime.UTC
GREENWICH = (51.4769, 0.0)


def without_the_library(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ephem", None)


def test_the_library_is_named_where_it_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    without_the_library(monkeypatch)
    with pytest.raises(MissingExtra, match=r"umbel\[solar\]"):
        solar("sunrise", *GREENWICH)


@pytest.mark.parametrize(
    "given", [("sunshine", 0, 0), ("sunrise", 91, 0), ("sunrise", 0, -181), ("sunrise", float("nan"), 0)]
)
def test_wrong_events_and_places_are_refused(given: tuple[Any, ...]) -> None:
    with pytest.raises(ParseException):
        solar(*given)


@pytest.fixture(autouse=True)
def almanac(request: pytest.FixtureRequest) -> None:
    if "missing" not in request.node.name and "refused" not in request.node.name:
        pytest.importorskip("ephem")


@pytest.mark.parametrize(
    ("event", "when"),
    [
        ("sunrise", "03:43"),  # almanac for Greenwich, 2024-06-21
        ("solar_noon", "12:02"),
        ("sunset", "20:21"),
    ],
)
def test_midsummer_in_greenwich(event: str, when: str) -> None:
    found = solar(event, *GREENWICH).next_run(datetime.datetime(2024, 6, 21, tzinfo=UTC))
    expected = datetime.datetime.fromisoformat(f"2024-06-21T{when}+00:00")
    assert abs(found - expected) < datetime.timedelta(minutes=2)


def test_dawn_sunrise_noon_sunset_and_dusk_come_in_their_order() -> None:
    order = ("astronomical", "nautical", "civil")
    events = [*(f"dawn_{kind}" for kind in order), "sunrise", "solar_noon", "sunset"]
    events += [f"dusk_{kind}" for kind in reversed(order)]
    begin = datetime.datetime(2024, 3, 1, tzinfo=UTC)
    found = [solar(event, *GREENWICH).next_run(begin) for event in events]
    assert found == sorted(found)
    assert len(set(found)) == 9


def test_the_day_after_comes_next() -> None:
    made = solar("sunset", *GREENWICH)
    first = made.next_run(datetime.datetime(2024, 6, 21, tzinfo=UTC))
    second = made.next_run(first)
    assert datetime.timedelta(hours=23) < second - first < datetime.timedelta(hours=25)


def test_where_the_sun_does_not_set_it_is_waited_for() -> None:
    found = solar("sunset", 78.2, 15.6).next_run(datetime.datetime(2024, 6, 1, tzinfo=UTC))
    assert datetime.datetime(2024, 8, 20, tzinfo=UTC) < found < datetime.datetime(2024, 8, 31, tzinfo=UTC)


def test_due() -> None:
    app = Umbel(set_as_current=False)
    sunset = solar("sunset", *GREENWICH).next_run(datetime.datetime(2024, 6, 21, tzinfo=UTC))
    now = sunset + datetime.timedelta(seconds=10)
    made = solar("sunset", *GREENWICH, nowfun=lambda: now, app=app)
    due, seconds = made.is_due(sunset - datetime.timedelta(hours=1))
    assert due
    assert 23 * 3600 < seconds < 25 * 3600
    assert not made.is_due(now)[0]


def test_pickled_and_equal() -> None:
    made = solar("sunset", *GREENWICH)
    assert pickle.loads(pickle.dumps(made)) == made
    assert made != solar("sunrise", *GREENWICH)
    assert repr(made) == "<solar: sunset at latitude 51.4769, longitude: 0.0>"
