"""``celery.app.log``: formatters for log lines of tasks."""

import logging
from typing import Any

from umbel.current import current_request

__all__ = ["TaskFormatter"]


class TaskFormatter(logging.Formatter):
    """Gives ``%(task_id)s`` and ``%(task_name)s`` of the task that runs, ``???`` where none does."""

    def __init__(self, fmt: str | None = None, use_color: bool = True, **options: Any) -> None:
        """``use_color`` is accepted for Celery's sake: colours are those of ``worker_log_color``."""
        super().__init__(fmt, **options)

    def format(self, record: logging.LogRecord) -> str:
        request = current_request()
        running = request is not None and not request.called_directly
        record.__dict__.update(
            task_id=request.id if request is not None and running else "???",
            task_name=request.task if request is not None and running else "???",
        )
        return super().format(record)
