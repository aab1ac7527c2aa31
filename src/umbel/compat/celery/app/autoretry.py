"""``celery.app.autoretry``: have a task retried when it raises. Workers do so by the options of the task."""

from __future__ import annotations

from typing import Any

from umbel.discovery import set_options
from umbel.task import Task

__all__ = ["add_autoretry_behaviour"]

_OPTIONS = frozenset(
    {"autoretry_for", "dont_autoretry_for", "retry_kwargs", "retry_backoff", "retry_backoff_max", "retry_jitter"}
)


def add_autoretry_behaviour(task: Task[..., Any], **options: Any) -> None:
    """Give the task those of ``options`` that are about automatic retries; ``autoretry_for`` names the exceptions."""
    set_options(task, {name: value for name, value in options.items() if name in _OPTIONS})
