"""``celery._state``: what is current."""

from umbel.current import (
    current_app,
    current_task,
    get_current_app,
    get_current_task,
    set_default_app,
)
from umbel.registry import share as connect_on_app_finalize

get_current_worker_task = get_current_task

__all__ = [
    "connect_on_app_finalize",
    "current_app",
    "current_task",
    "get_current_app",
    "get_current_task",
    "get_current_worker_task",
    "set_default_app",
]
