"""When periodic tasks run: every so often (``schedule``), by the clock (``crontab``), by the sun (``solar``).

    from umbel.schedules import crontab

    crontab(hour=7, minute=30, day_of_week="mon-fri")

A schedule is asked ``is_due(last_run_at)`` and answers whether to run now and in how many seconds to ask again. Names
and meanings are Celery's; ``docs/how-to/schedules.md`` says what differs.
"""

from __future__ import annotations

from umbel.schedules.base import BaseSchedule, maybe_schedule, schedstate
from umbel.schedules.cron import crontab
from umbel.schedules.fields import ParseException, crontab_parser
from umbel.schedules.interval import schedule
from umbel.schedules.sun import solar

__all__ = [
    "BaseSchedule",
    "ParseException",
    "crontab",
    "crontab_parser",
    "maybe_schedule",
    "schedstate",
    "schedule",
    "solar",
]
