"""``app.log``: Celery's view of the log of a program."""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import Callable
from logging.handlers import WatchedFileHandler
from typing import TYPE_CHECKING, Any

from msgspec.structs import replace

from umbel.log import TASK_LOGGER, setup
from umbel.log.formatting import PatternFormatter
from umbel.log.redirecting import LOGGER, LogStream, log_streams

if TYPE_CHECKING:
    from umbel.app import Umbel


class Logging:
    """Sets up logging as workers do, for programs of your own."""

    def __init__(self, app: Umbel) -> None:
        self.app = app

    @property
    def already_setup(self) -> bool:
        """Whether this process logs as Umbel's programs do."""
        return setup.current_setup() is not None

    def setup(
        self,
        loglevel: int | str | None = None,
        logfile: str | None = None,
        redirect_stdouts: bool = False,
        redirect_level: int | str = "WARNING",
        colorize: bool | None = None,
        hostname: str | None = None,
    ) -> None:
        """Log from ``loglevel`` (default WARNING) to ``logfile`` or standard error, in the forms that the settings say.

        ``redirect_stdouts``: what is printed goes to the log too, on ``redirect_level``. ``hostname`` has no effect.
        Does nothing where logging is set up already. Raises OSError, ConfigurationError.
        """
        if self.already_setup:
            return
        level = loglevel if isinstance(loglevel, str) else logging.getLevelName(loglevel or logging.WARNING)
        wanted = setup.setup_of(self.app.conf, level=level.upper(), style=None, file=logfile)
        number = _number(redirect_level)
        setup.configure(
            replace(
                wanted,
                color=wanted.color if colorize is None else colorize,
                redirect_level=number if redirect_stdouts else None,
            )
        )
        if redirect_stdouts:
            sys.stdout, sys.stderr = log_streams(number)

    def setup_logging_subsystem(
        self,
        loglevel: int | str | None = None,
        logfile: str | None = None,
        format: str | None = None,
        colorize: bool | None = None,
        hostname: str | None = None,
        **kwargs: Any,
    ) -> None:
        """As ``setup``, without what is printed. ``format`` and further arguments have no effect: see
        ``worker_log_format``."""
        self.setup(loglevel, logfile, colorize=colorize)

    # -- parts of it --

    def supports_color(self, colorize: bool | None = None, logfile: Any = None) -> bool:
        """Whether to log in colours: on a terminal, not to a ``logfile``, and not where ``colorize``, else
        ``worker_log_color``, is false."""
        wanted = self.app.conf.worker_log_color if colorize is None else colorize
        if wanted is False or logfile:
            return False
        return sys.stderr.isatty() and (wanted is True or "NO_COLOR" not in os.environ)

    def redirect_stdouts(self, loglevel: int | str | None = None, name: str = LOGGER) -> None:
        """Have what this process prints logged by the logger ``name``. See ``redirect_stdouts_to_logger``."""
        self.redirect_stdouts_to_logger(logging.getLogger(name), loglevel)

    def redirect_stdouts_to_logger(
        self, logger: logging.Logger, loglevel: int | str | None = None, stdout: bool = True, stderr: bool = True
    ) -> LogStream:
        """Have what is printed logged at ``loglevel``, default ``worker_redirect_stdouts_level``; what now stands for
        ``sys.stdout``, or for ``sys.stderr`` without that.

        To undo it, put the old ``sys.stdout`` and ``sys.stderr`` back.
        """
        level = _number(self.app.conf.worker_redirect_stdouts_level if loglevel is None else loglevel)
        out, err = LogStream(logger, level, sys.stdout), LogStream(logger, level, sys.stderr)
        if stdout:
            sys.stdout = out
        if stderr:
            sys.stderr = err
        return out if stdout else err

    def setup_handlers(
        self,
        logger: logging.Logger,
        logfile: Any,
        format: str,
        colorize: bool,
        formatter: Callable[..., logging.Formatter] | None = None,
        datefmt: str | None = None,
        **kwargs: Any,
    ) -> logging.Logger:
        """Give a logger that has none a handler: to the file of that name, an open file, or standard error.

        ``formatter``: called with ``format``, ``use_color`` and ``datefmt``; default Umbel's, which knows
        ``%(task_name)s`` and ``%(task_id)s``. Returns the logger. Raises OSError, ValueError.
        """
        if any(not isinstance(each, logging.NullHandler) for each in logger.handlers):
            return logger
        if formatter is None:
            made: logging.Formatter = PatternFormatter(format, datefmt, color=bool(colorize))
        else:
            made = formatter(format, use_color=colorize, datefmt=datefmt)
        if isinstance(logfile, str):
            handler: logging.Handler = WatchedFileHandler(logfile, encoding="utf-8")
        else:
            handler = logging.StreamHandler(logfile or sys.stderr)
        handler.setFormatter(made)
        logger.addHandler(handler)
        return logger

    def setup_task_loggers(
        self,
        loglevel: int | str | None = None,
        logfile: Any = None,
        format: str | None = None,
        colorize: bool | None = None,
        propagate: bool = False,
        datefmt: str | None = None,
        **kwargs: Any,
    ) -> logging.Logger:
        """Give the parent of the loggers of tasks a level (default WARNING) and a handler of its own, in the form of
        ``worker_task_log_format``; returns it. The signal ``after_setup_task_logger`` is sent."""
        from umbel.signals import after_setup_task_logger

        logger = logging.getLogger(TASK_LOGGER)
        logger.setLevel(_number(loglevel or logging.WARNING))
        logger.propagate = propagate
        pattern = format or self.app.conf.worker_task_log_format or setup.DEFAULT_TASK_PATTERN
        coloured = self.supports_color(colorize, logfile)
        self.setup_handlers(
            logger, logfile, pattern, coloured, datefmt=datefmt or self.app.conf.worker_task_log_datefmt
        )
        after_setup_task_logger.send(
            sender=None, logger=logger, loglevel=logger.level, logfile=logfile, format=pattern, colorize=coloured
        )
        return logger

    def get_default_logger(self, name: str = "umbel", **kwargs: Any) -> logging.Logger:
        return logging.getLogger(name)


def _number(level: int | str) -> int:
    """A level by its name or number. Raises KeyError for an unknown name."""
    return level if isinstance(level, int) else logging.getLevelNamesMapping()[level.upper()]
