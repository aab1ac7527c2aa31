"""Logging: what workers write, and the loggers of tasks.

    from umbel.log import get_task_logger

    logger = get_task_logger(__name__)

Every line that is logged while a task runs, by whatever logger, carries the task's name and id. ``formatting`` makes
the lines, ``setup`` sends them where the options say, ``redirecting`` brings in what tasks print.
"""

from __future__ import annotations

import logging

TASK_LOGGER = "umbel.task"
"""Parent of the loggers of tasks, and logger of the line for each end of a task."""


def get_task_logger(name: str) -> logging.Logger:
    """The logger ``name``, below ``umbel.task``: its level and handlers are set for all tasks in one place.

    Raises ValueError for names that belong to Umbel.
    """
    if name == "umbel" or name.startswith("umbel."):
        raise ValueError(
            f"the logger {name!r} belongs to Umbel; use the name of your module: get_task_logger(__name__)"
        )
    logger = logging.getLogger(name)
    logger.parent = logging.getLogger(TASK_LOGGER)
    return logger
