"""``celery.app.registry``: tasks by name."""

from typing import Any

from umbel.current import get_current_app
from umbel.errors import NotRegistered
from umbel.registry import TaskRegistry

__all__ = ["NotRegistered", "TaskRegistry"]


def _unpickle_task(name: str) -> Any:  # pyright: ignore[reportUnusedFunction] - the names are in Celery's pickles
    return get_current_app().tasks[name]


def _unpickle_task_v2(name: str, module: str | None = None) -> Any:  # pyright: ignore[reportUnusedFunction]
    if module is not None:
        __import__(module)
    return get_current_app().tasks[name]
