"""Schedules: as Celery computes them (tables by a real one), and by the clock and the calendar where it is turned."""

from __future__ import annotations

import csv
import datetime
import pickle
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from umbel import Umbel
from umbel.errors import ConfigurationError, UmbelError
from umbel.schedules import ParseException, crontab, crontab_parser, maybe_schedule, schedstate, schedule
from umbel.schedules.fields import MONTHS
from umbel.schedules.moments import ffwd, humanize_seconds

TABLES = Path(__file__).parents[1] / "data" / "schedules"
WELL_FORMED = re.compile(r"(\*|(\d+|[A-Za-z]{3})(-(\d+|[A-Za-z]{3}))?)(/\d+)?")
"""Of a part that is not, Celery takes the beginning and leaves out the rest; here it is an error."""

UTC = datetime.UTC
BERLIN = ZoneInfo("Europe/Berlin")
ZONES = (
    "UTC",
    "Europe/Berlin",
    "America/New_York",
    "Australia/Lord_Howe",
    "America/Havana",
    "Asia/Kolkata",
    "Pacific/Apia",
)


def table(name: str) -> Iterator[list[str]]:
    with (TABLES / f"{name}.csv").open(newline="") as file:
        yield from csv.reader(file)


def at(seconds: float, zone: Any = UTC) -> datetime.datetime:
    return datetime.datetime.fromtimestamp(seconds, zone)


def clock(text: str, zone: Any = UTC, fold: int = 0) -> datetime.datetime:
    return datetime.datetime.fromisoformat(text).replace(tzinfo=zone, fold=fold)


def stopped(moment: datetime.datetime) -> Callable[[], datetime.datetime]:
    return lambda: moment


@pytest.fixture
def app() -> Umbel:
    return Umbel(set_as_current=False)


# -- as Celery --


def test_patterns_mean_what_they_mean_to_celery() -> None:
    wrong: list[str] = []
    for text, size, first, values in table("patterns"):
        try:
            found = " ".join(map(str, sorted(crontab_parser(int(size), int(first)).parse(text))))
        except ParseException:
            found = "!"
        well_formed = all(WELL_FORMED.fullmatch(part) for part in text.split(","))
        if found != values and (well_formed or found != "!"):
            wrong.append(f"{text!r} ({size} from {first}): {found}, Celery: {values}")
    assert not wrong, "\n".join(wrong[:20])


def test_crontabs_run_when_celerys_do() -> None:
    apps = {zone: Umbel(timezone=zone, set_as_current=False) for zone in ("UTC", "Asia/Kolkata", "Europe/Berlin")}
    apps["America/New_York"] = Umbel(timezone="America/New_York", set_as_current=False)
    wrong: list[str] = []
    for row in table("crontabs"):
        minute, hour, weekday, day, month, zone, deadline, last, now, following, due, left = row
        app = apps[zone]
        app.conf.beat_cron_starting_deadline = int(deadline) if deadline else None
        made = crontab(minute, hour, weekday, day, month, app=app, nowfun=stopped(at(int(now), ZoneInfo(zone))))
        before = at(int(last), ZoneInfo(zone))
        estimate = int(now) + made.remaining_estimate(before).total_seconds()
        answer = made.is_due(before)
        if (estimate, *answer) != (int(following), due == "1", int(left)):
            wrong.append(f"{made} last {before} now {now}: {at(estimate)} {answer}; Celery: {row[9:]}")
    assert not wrong, f"{len(wrong)} differ\n" + "\n".join(wrong[:20])


def test_intervals_run_when_celerys_do(app: Umbel) -> None:
    wrong: list[str] = []
    for row in table("intervals"):
        seconds, relative, last, now, due, left = map(int, row)
        answer = schedule(seconds, bool(relative), stopped(at(now)), app).is_due(at(last))
        if answer != (bool(due), left):
            wrong.append(f"{row}: {answer}")
    assert not wrong, "\n".join(wrong[:20])


# -- properties --


def fields(size: int, first: int) -> st.SearchStrategy[set[int]]:
    numbers = st.integers(first, first + size - 1)
    return st.one_of(st.just(set(range(first, first + size))), st.sets(numbers, min_size=1, max_size=6))


@st.composite
def crontabs(draw: st.DrawFn) -> crontab:
    zone = draw(st.sampled_from(ZONES))
    made = [draw(fields(size, first)) for size, first in ((60, 0), (24, 0), (7, 0))]
    days = draw(fields(28, 1))
    return crontab(made[0], made[1], made[2], days, draw(fields(12, 1)), timezone=zone)


def matches(made: crontab, moment: datetime.datetime) -> bool:
    return (
        moment.minute in made.minute
        and moment.hour in made.hour
        and moment.isoweekday() % 7 in made.day_of_week
        and moment.day in made.day_of_month
        and moment.month in made.month_of_year
        and not moment.second
    )


def real(moment: datetime.datetime) -> datetime.datetime:
    return moment.astimezone(UTC)


@settings(max_examples=100, deadline=None)
@given(made=crontabs(), seconds=st.integers(1_262_304_000, 1_900_000_000))
def test_the_next_run_is_later_and_matches_and_none_is_between(made: crontab, seconds: int) -> None:
    after = at(seconds)
    run = made.next_run(after)
    assert run > after
    turned = run.utcoffset() != (real(run) - datetime.timedelta(hours=25)).astimezone(made.tz).utcoffset()
    assert matches(made, run) or turned
    if turned:
        return
    minute = datetime.timedelta(minutes=1)
    step = after.replace(second=0, microsecond=0) + minute
    for _ in range(3000):
        if step >= real(run):
            break
        local = step.astimezone(made.tz)
        once = local.fold == 0 or len(made.hour) == 24
        assert not (matches(made, local) and once), f"{local} comes before {run}"
        step += minute


@settings(max_examples=60, deadline=None)
@given(made=crontabs(), seconds=st.integers(1_262_304_000, 1_900_000_000))
def test_runs_go_on_one_after_another(made: crontab, seconds: int) -> None:
    first = made.next_run(at(seconds))
    between = at((seconds + first.timestamp()) / 2)
    assert made.next_run(between) == first
    assert made.next_run(first - datetime.timedelta(microseconds=1)) == first
    assert real(made.next_run(first)) > real(first)


@settings(max_examples=12, deadline=None)
@given(
    st.sampled_from(["2018-03-24", "2018-10-27", "2018-04-14", "2018-07-01"]),
    st.sampled_from(ZONES),
    st.sets(st.integers(0, 59), min_size=1, max_size=6),
)
def test_a_schedule_for_every_hour_follows_the_clock_through_every_change(
    day: str, zone: str, minutes: set[int]
) -> None:
    made = crontab(minutes, timezone=zone)
    begin = clock(day)
    run, runs = made.next_run(begin), set[datetime.datetime]()
    while real(run) < begin + datetime.timedelta(hours=36):
        runs.add(real(run))
        run = made.next_run(run)
    every = (begin + datetime.timedelta(minutes=n) for n in range(1, 36 * 60))
    assert runs == {moment for moment in every if moment.astimezone(ZoneInfo(zone)).minute in minutes}


# -- turned clocks --


def runs_of(made: crontab, after: str, count: int) -> list[str]:
    moment, found = clock(after, made.tz), list[str]()
    for _ in range(count):
        moment = made.next_run(moment)
        found.append(moment.isoformat(timespec="minutes"))
    return found


def test_a_time_that_is_skipped_comes_later_that_day() -> None:
    made = crontab(30, 2, timezone="Europe/Berlin")
    assert runs_of(made, "2024-03-30T00:00", 3) == [
        "2024-03-30T02:30+01:00",
        "2024-03-31T03:30+02:00",
        "2024-04-01T02:30+02:00",
    ]


def test_a_time_that_comes_twice_runs_once() -> None:
    made = crontab(30, 2, timezone="Europe/Berlin")
    assert runs_of(made, "2024-10-26T12:00", 2) == ["2024-10-27T02:30+02:00", "2024-10-28T02:30+01:00"]


def test_every_quarter_of_an_hour_goes_on_in_both_equal_hours() -> None:
    made = crontab("*/30", timezone="Europe/Berlin")
    assert runs_of(made, "2024-10-27T01:30", 5) == [
        "2024-10-27T02:00+02:00",
        "2024-10-27T02:30+02:00",
        "2024-10-27T02:00+01:00",
        "2024-10-27T02:30+01:00",
        "2024-10-27T03:00+01:00",
    ]


def test_every_quarter_of_an_hour_goes_over_a_skipped_hour() -> None:
    made = crontab("*/30", timezone="Europe/Berlin")
    assert runs_of(made, "2024-03-31T01:00", 3) == [
        "2024-03-31T01:30+01:00",
        "2024-03-31T03:00+02:00",
        "2024-03-31T03:30+02:00",
    ]


def test_half_an_hour_that_is_skipped_does_not_hide_what_is_after_it() -> None:
    made = crontab("15,35", 2, timezone="Australia/Lord_Howe")
    assert runs_of(made, "2024-10-06T01:00", 3) == [
        "2024-10-06T02:35+11:00",
        "2024-10-06T02:45+11:00",
        "2024-10-07T02:15+11:00",
    ]


def test_february_29_on_a_sunday() -> None:
    made = crontab(0, 0, day_of_week="sun", day_of_month=29, month_of_year=2, timezone="UTC")
    assert made.next_run(clock("2004-03-01T00:00")) == clock("2032-02-29T00:00")
    assert made.next_run(clock("2088-03-01T00:00")) == clock("2128-02-29T00:00")


# -- crontab --


@pytest.mark.parametrize(
    ("given", "found"),
    [
        ({"minute": "*/15"}, {0, 15, 30, 45}),
        ({"minute": 7}, {7}),
        ({"minute": [1, 2]}, {1, 2}),
        ({"minute": range(58, 60)}, {58, 59}),
        ({"minute": "55-5/2"}, {55, 57, 59, 1, 3, 5}),
    ],
)
def test_a_field_is_a_number_several_or_a_pattern(given: dict[str, Any], found: set[int]) -> None:
    assert crontab(**given).minute == found


def test_days_and_months_have_names() -> None:
    made = crontab(day_of_week="mon-Fri,sunday", month_of_year="jan,DEC,march-may")
    assert made.day_of_week == {0, 1, 2, 3, 4, 5}
    assert made.month_of_year == {1, 12, 3, 4, 5}
    assert crontab_parser(12, 1).parse(",".join(MONTHS)) == set(range(1, 13))


@pytest.mark.parametrize(
    "given",
    [
        {"minute": 60},
        {"minute": -1},
        {"hour": "24"},
        {"day_of_week": "7"},
        {"day_of_week": "noday"},
        {"day_of_week": "mo"},
        {"day_of_month": "0"},
        {"month_of_year": "13"},
        {"minute": "*/0"},
        {"minute": "*/"},
        {"minute": "5/10"},
        {"minute": ""},
        {"minute": "1,,2"},
        {"minute": []},
        {"day_of_month": 31, "month_of_year": "4,6,9,11"},
        {"day_of_month": "30-31", "month_of_year": "feb"},
    ],
)
def test_a_wrong_field_is_refused_and_named(given: dict[str, Any]) -> None:
    with pytest.raises(ParseException) as caught:
        crontab(**given)
    assert isinstance(caught.value, ValueError)
    assert isinstance(caught.value, UmbelError)
    assert next(reversed(given)).partition("_")[0] in str(caught.value)


@pytest.mark.parametrize("given", [None, 1.5, object(), [1.5], ["1"]])
def test_what_is_no_field_at_all_is_a_type_error(given: Any) -> None:
    with pytest.raises(TypeError, match="hour of a crontab"):
        crontab(hour=given)


def test_from_string() -> None:
    assert crontab.from_string("0 4 1 */3 mon") == crontab(0, 4, "mon", 1, "*/3")
    with pytest.raises(ParseException, match="4 fields"):
        crontab.from_string("0 4 * *")


def test_equal_by_what_they_stand_for() -> None:
    assert crontab("*/30") == crontab([0, 30])
    assert hash(crontab("*/30")) == hash(crontab("0,30"))
    assert crontab("*/30") != crontab("*/15")
    assert crontab(timezone="Asia/Tokyo") != crontab()
    assert crontab() != schedule(60)
    assert schedule(60) == schedule(datetime.timedelta(minutes=1)) == datetime.timedelta(minutes=1)
    assert schedule(60) != schedule(61)


@pytest.mark.parametrize(
    "made",
    [
        crontab("*/5", [1, 2], "mon", 3, "jan"),
        crontab(hour=7, timezone="Europe/Berlin"),
        schedule(12.5, relative=True),
    ],
)
def test_pickled(made: Any) -> None:
    again = pickle.loads(pickle.dumps(made))
    assert again == made
    assert repr(again) == repr(made)
    assert getattr(again, "relative", None) == getattr(made, "relative", None)


def test_texts() -> None:
    made = crontab("*/15", [1, 2], "mon-fri")
    assert repr(made) == str(made) == "<crontab: */15 [1, 2] * * mon-fri (m/h/dM/MY/d)>"
    assert repr(schedule(60)) == "<freq: 1.00 minute>"
    assert humanize_seconds(90_000) == "1.04 days"
    assert humanize_seconds(0.25, prefix="in ", microseconds=True) == "in 0.25 seconds"
    assert humanize_seconds(0) == "now"


def test_naive_moments_are_utc() -> None:
    app = Umbel(timezone="Asia/Tokyo", set_as_current=False)
    made = crontab(0, 9, app=app, nowfun=lambda: datetime.datetime(2024, 1, 1, 23, 0))
    assert made.remaining_estimate(datetime.datetime(2024, 1, 1, 12, 0)) == datetime.timedelta(hours=1)
    assert made.tz == ZoneInfo("Asia/Tokyo")


def test_the_parts_of_remaining_delta_add_up() -> None:
    made = crontab(30, 7, timezone="Europe/Berlin", nowfun=stopped(clock("2024-05-05T00:00")))
    last, jump, now = made.remaining_delta(clock("2024-05-01T12:00"))
    assert last + jump == clock("2024-05-02T07:30", BERLIN)
    assert now == clock("2024-05-05T00:00")
    assert isinstance(jump, ffwd)


def test_a_missed_run_is_made_up_for_once() -> None:
    app = Umbel(set_as_current=False)
    made = crontab(0, app=app, nowfun=stopped(clock("2024-05-05T12:30")))
    assert made.is_due(clock("2024-05-05T08:00")) == schedstate(True, 1800)
    assert made.is_due(clock("2024-05-05T12:30")) == (False, 1800)


def test_a_run_missed_for_too_long_is_not_made_up_for() -> None:
    app = Umbel(beat_cron_starting_deadline=600, set_as_current=False)
    made = crontab(0, app=app, nowfun=stopped(clock("2024-05-05T12:30")))
    assert made.is_due(clock("2024-05-05T08:00")) == (False, 1800)
    app.conf.beat_cron_starting_deadline = 1800
    assert made.is_due(clock("2024-05-05T08:00")) == (True, 1800)


def test_a_subclass_may_bring_its_own_zone_and_clock() -> None:
    class Zoned(crontab):
        def __init__(self, *args: Any, tz: Any, **kwargs: Any) -> None:
            self.tz = tz
            super().__init__(*args, **kwargs)

    assert Zoned(0, 7, tz=BERLIN).next_run(clock("2024-05-01T12:00")) == clock("2024-05-02T07:00", BERLIN)


def test_an_unknown_time_zone_is_refused() -> None:
    with pytest.raises(ConfigurationError, match="Europe/Atlantis"):
        crontab(timezone="Europe/Atlantis")


# -- schedule --


def test_an_interval_is_real_time(app: Umbel) -> None:
    last = clock("2024-03-31T01:30", BERLIN)
    made = schedule(3600, nowfun=stopped(last), app=app)
    assert made.remaining_estimate(last) == datetime.timedelta(hours=1)


def test_a_relative_interval_runs_at_full_units_of_the_zone() -> None:
    app = Umbel(timezone="Asia/Kolkata", set_as_current=False)
    last = clock("2024-01-01T12:20", ZoneInfo("Asia/Kolkata"))
    made = schedule(datetime.timedelta(days=1), relative=True, nowfun=stopped(last), app=app)
    assert made.is_due(last) == (False, 11 * 3600 + 40 * 60)


def test_an_interval_is_needed() -> None:
    with pytest.raises(ConfigurationError, match="run_every"):
        schedule()


def test_maybe_schedule(app: Umbel) -> None:
    assert maybe_schedule(30, app=app) == schedule(30)
    assert maybe_schedule(datetime.timedelta(hours=1), relative=True).relative
    made = crontab()
    assert maybe_schedule(made, app=app) is made
    assert made.app is app
    assert maybe_schedule(None) is None


# -- jumps --


def test_a_jump_sets_fields_and_goes_on() -> None:
    begin = datetime.datetime(2024, 1, 31, 10, 20)
    assert begin + ffwd(month=2) == datetime.datetime(2024, 2, 29, 10, 20)
    assert begin + ffwd(weeks=1, weekday=0, hour=8, minute=0) == datetime.datetime(2024, 2, 12, 8, 0)
