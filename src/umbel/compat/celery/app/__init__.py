"""``celery.app``: the application, and which one is current."""

from typing import Any

from umbel.app import Umbel
from umbel.bug_report import bugreport
from umbel.compat.celery._state import pop_current_task, push_current_task
from umbel.compat.celery.app.base import Celery
from umbel.compat.missing import refuse
from umbel.current import current_app, get_current_app
from umbel.registry import shared_task

default_app = current_app

__all__ = [
    "Celery",
    "app_or_default",
    "bugreport",
    "default_app",
    "pop_current_task",
    "push_current_task",
    "shared_task",
]


def app_or_default(app: Umbel | None = None) -> Umbel:
    """``app``, or the current application."""
    return app if app is not None else get_current_app()


def __getattr__(name: str) -> Any:
    return refuse("celery.app", name)
