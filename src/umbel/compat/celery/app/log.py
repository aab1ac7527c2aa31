"""``celery.app.log``: the log of a program, and a formatter for lines of tasks."""

from __future__ import annotations

import logging

from umbel.application.logs import Logging
from umbel.compat.celery.utils.log import ColorFormatter
from umbel.current import current_request

__all__ = ["Logging", "TaskFormatter"]


class TaskFormatter(ColorFormatter):
    """Gives ``%(task_id)s`` and ``%(task_name)s`` of the task that runs, ``???`` where none does."""

    def format(self, record: logging.LogRecord) -> str:
        request = current_request()
        running = request is not None and not request.called_directly
        record.__dict__.update(
            task_id=request.id if request is not None and running else "???",
            task_name=request.task if request is not None and running else "???",
        )
        return super().format(record)
