"""The logging signals: users set up logging instead of Umbel, or add to what it has set up."""

from __future__ import annotations

import logging
from collections.abc import Callable

from umbel.signals import after_setup_logger, after_setup_task_logger, setup_logging


def set_up_logging(
    configure: Callable[[], None], *, level: str, file: str | None, style: str, color: bool | None = None
) -> None:
    """Call ``configure``, unless somebody is connected to ``setup_logging``; then tell of the loggers."""
    named = {"loglevel": logging.getLevelNamesMapping()[level], "logfile": file, "format": style, "colorize": color}
    if setup_logging.receivers:
        setup_logging.send(**named)
        return
    configure()
    after_setup_logger.send(logger=logging.getLogger(), **named)
    after_setup_task_logger.send(logger=logging.getLogger("umbel.task"), **named)
