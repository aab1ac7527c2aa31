"""Makes the tables in this directory: what a real Celery answers to random schedules.

    CELERY_PYTHON tests/data/schedules/make.py

``patterns.csv``: pattern, number of values, first value; then the values, or ``!`` for an error. ``crontabs.csv``: the
five arguments of a crontab, time zone, beat_cron_starting_deadline, last run and now (seconds since 1970); then the
next run after the last, whether the schedule is due, and the seconds until it is to be asked again. ``intervals.csv``:
seconds, relative, last run, now; then due and seconds. Left out: what crosses a change of the clock's offset, about
which Umbel thinks otherwise (docs/how-to/schedules.md), and patterns for which Celery runs into an error of its own.
"""

import csv
import datetime
import itertools
import random
from pathlib import Path
from zoneinfo import ZoneInfo

from celery import Celery
from celery.schedules import crontab, crontab_parser, schedule

HERE = Path(__file__).parent
ZONES = ("UTC", "Asia/Kolkata", "Europe/Berlin", "America/New_York")
FIELDS = ((60, 0), (24, 0), (7, 0), (31, 1), (12, 1))
NAMES = {
    (7, 0): ["sun", "mon", "tue", "wed", "thu", "fri", "sat"],
    (12, 1): ["jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec"],
}
START = datetime.datetime(2019, 1, 1, tzinfo=datetime.UTC).timestamp()
YEARS = 12 * 365 * 86400


def value(dice, size, first):
    names = NAMES.get((size, first))
    if names and dice.random() < 0.2:
        name = dice.choice(names)
        return dice.choice((name, name.upper(), name.title()))
    return str(dice.randrange(first, first + size))


def part(dice, size, first):
    kind = dice.random()
    if kind < 0.15:
        return "*"
    if kind < 0.35:
        return f"*/{dice.randrange(1, size + 3)}"
    if kind < 0.65:
        return value(dice, size, first)
    ends = f"{value(dice, size, first)}-{value(dice, size, first)}"
    return ends if kind < 0.85 else f"{ends}/{dice.randrange(1, size)}"


def pattern(dice, size, first):
    return ",".join(part(dice, size, first) for _ in range(dice.choice((1, 1, 1, 2, 2, 3, 4))))


def spoilt(dice, text):
    at = dice.randrange(len(text) + 1)
    return text[:at] + dice.choice(("-", "/", ",", "*", "x", "9", "0", "%")) + text[at + dice.randrange(2) :]


def patterns(dice, count):
    for _ in range(count):
        size, first = dice.choice(FIELDS)
        text = pattern(dice, size, first)
        if dice.random() < 0.4:
            text = spoilt(dice, text)
        try:
            values = " ".join(map(str, sorted(crontab_parser(size, first).parse(text))))
        except (ValueError, KeyError, IndexError):
            values = "!"
        except Exception as error:
            assert type(error).__name__ == "ParseException", error
            values = "!"
        yield text, size, first, values


def apps():
    for zone in ZONES:
        app = Celery(set_as_current=False)
        app.conf.timezone = zone
        yield zone, app


def same_offset(zone, *moments):
    begin, end = int(min(moments)) - 3600, int(max(moments)) + 3600
    days = itertools.chain(range(begin, min(end, begin + 800 * 86400), 3600 * 6), [end])
    return len({datetime.datetime.fromtimestamp(t, zone).utcoffset() for t in days}) == 1


def crontabs(dice, count):
    made = dict(apps())
    while count:
        zone, app = dice.choice(list(made.items()))
        fields = [pattern(dice, *field) if dice.random() < 0.6 else "*" for field in FIELDS]
        last = START + dice.randrange(YEARS)
        now = last + dice.choice((30, 3600, 86400, 40 * 86400, 400 * 86400)) * dice.random()
        last, now = int(last), int(now)
        deadline = dice.choice((None, None, 60, 3600, 86400))
        app.conf.beat_cron_starting_deadline = deadline
        tz = ZoneInfo(zone)
        present = datetime.datetime.fromtimestamp(now, tz)
        try:
            made_of = crontab(*fields, app=app, nowfun=lambda present=present: present)
            before = datetime.datetime.fromtimestamp(last, tz)
            following = now + made_of.remaining_estimate(before).total_seconds()
            due, left = made_of.is_due(before)
        except Exception:
            continue
        if not same_offset(tz, last, now, following, now + left):
            continue
        count -= 1
        yield (*fields, zone, deadline or "", last, now, int(following), int(due), int(left))


def intervals(dice, count):
    app = Celery(set_as_current=False)
    for _ in range(count):
        seconds = dice.choice((1, 60, 3600, 86400)) * dice.randrange(1, 9) + dice.choice((0, 0, 1, 30))
        relative = dice.random() < 0.5
        last = START + dice.randrange(YEARS)
        now = last + int(seconds * dice.random() * 1.5)
        moment = datetime.datetime.fromtimestamp(now, datetime.UTC)
        made_of = schedule(seconds, relative, lambda moment=moment: moment, app)
        due, left = made_of.is_due(datetime.datetime.fromtimestamp(last, datetime.UTC))
        yield seconds, int(relative), int(last), int(now), int(due), int(left)


def main():
    dice = random.Random(57)
    for name, rows in (
        ("patterns", patterns(dice, 1500)),
        ("crontabs", crontabs(dice, 2500)),
        ("intervals", intervals(dice, 400)),
    ):
        with (HERE / f"{name}.csv").open("w", newline="") as file:
            csv.writer(file, lineterminator="\n").writerows(rows)


if __name__ == "__main__":
    main()
