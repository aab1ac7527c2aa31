"""Declarations: periodic tasks and the scheduler."""

from typing import Any

from umbel.config.declaring import setting
from umbel.config.unused import NO_SCHEDULER


class ScheduleSettings:
    """Schedule: periodic tasks and the process that sends them (beat)."""

    beat_schedule: dict[str, Any] = setting(
        {},
        "Periodic tasks: name to a dict of task, schedule, args, kwargs, options.",
        old="CELERYBEAT_SCHEDULE",
    )
    beat_scheduler: str | type[Any] | None = setting(
        None,
        "Class that keeps the schedule; None means Umbel's own, of which any number may run.",
        old="CELERYBEAT_SCHEDULER",
        celery="its PersistentScheduler",
        ignored=NO_SCHEDULER,
    )
    beat_schedule_filename: str = setting(
        "celerybeat-schedule",
        "File in which a scheduler that stores its state locally keeps it.",
        old="CELERYBEAT_SCHEDULE_FILENAME",
        ignored=NO_SCHEDULER,
    )
    beat_sync_every: int = setting(
        0,
        "Sent tasks after which a scheduler writes its state; 0 writes by time.",
        old="CELERYBEAT_SYNC_EVERY",
        minimum=0,
        ignored=NO_SCHEDULER,
    )
    beat_max_loop_interval: float = setting(
        0.0,
        "Longest sleep in seconds between looks at the schedule; 0 leaves it to the scheduler.",
        old="CELERYBEAT_MAX_LOOP_INTERVAL",
        minimum=0,
        ignored=NO_SCHEDULER,
    )
    beat_cron_starting_deadline: int | None = setting(
        None,
        "Seconds by which a missed crontab time may be late and still run; None runs it however late.",
        old="CELERYBEAT_CRON_STARTING_DEADLINE",
        ignored=NO_SCHEDULER,
    )
    beat_enable_remote_control: bool = setting(
        False,
        "The scheduler answers remote control commands.",
        old="CELERYBEAT_ENABLE_REMOTE_CONTROL",
        ignored=NO_SCHEDULER,
    )
    beat_remote_control_max_tick_age: float | None = setting(
        None,
        "Seconds since the last tick above which the scheduler reports itself as stuck.",
        old="CELERYBEAT_REMOTE_CONTROL_MAX_TICK_AGE",
        ignored=NO_SCHEDULER,
    )
    beat_executable: str | None = setting(
        None, "Python executable of a scheduler that is started in the background.", ignored=NO_SCHEDULER
    )
    beat_logfile: str | None = setting(None, "Log file of a scheduler.", ignored=NO_SCHEDULER)
    beat_pidfile: str | None = setting(None, "File for the process id of a scheduler.", ignored=NO_SCHEDULER)
    beat_uid: str | int | None = setting(None, "User that a scheduler changes to.", ignored=NO_SCHEDULER)
    beat_gid: str | int | None = setting(None, "Group that a scheduler changes to.", ignored=NO_SCHEDULER)
    beat_umask: str | int | None = setting(
        None, "File mode mask of a scheduler in the background.", ignored=NO_SCHEDULER
    )
