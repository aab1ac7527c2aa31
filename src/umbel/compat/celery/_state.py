"""``celery._state``: what is current."""

from __future__ import annotations

from typing import Any

from umbel.current import (
    current_app,
    current_request,
    current_task,
    drop_request,
    get_current_app,
    get_current_task,
    push_request,
    set_default_app,
)
from umbel.registry import share as connect_on_app_finalize
from umbel.request import Request
from umbel.task import Task

get_current_worker_task = get_current_task

__all__ = [
    "connect_on_app_finalize",
    "current_app",
    "current_task",
    "get_current_app",
    "get_current_task",
    "get_current_worker_task",
    "pop_current_task",
    "push_current_task",
    "set_default_app",
]


def push_current_task(obj: Task[..., Any]) -> None:
    """Make the task ``obj`` the current one here, in this thread or coroutine; ``pop_current_task`` ends it."""
    push_request(Request(owner_task=obj, enclosing=current_request()))


def pop_current_task() -> Task[..., Any] | None:
    """Make the task before it the current one again; the one that was current, or None."""
    dropped = drop_request()
    return dropped.owner if dropped is not None else None
