"""Celery's keys for results in Redis, and how long they live: shared by the backend and the broker's settlements."""

from __future__ import annotations

META = "celery-task-meta-"
GROUP = "celery-taskset-meta-"


def prefix_of(key_prefix: str) -> str:
    """What stands before every key under ``key_prefix``: Celery sets it off with ``_`` unless it ends in ``:_-.``."""
    if not key_prefix or key_prefix[-1] in ":_-.":
        return key_prefix
    return key_prefix + "_"


def result_key(prefix: str, task_id: str) -> str:
    """The key of a result, which is also the channel on which it is published. ``prefix`` as by ``prefix_of``."""
    return f"{prefix}{META}{task_id}"


def milliseconds_of(seconds: float) -> int:
    """A time to live for Redis: 0 for never, otherwise at least one."""
    return max(1, int(seconds * 1000)) if seconds > 0 else 0
