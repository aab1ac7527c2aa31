"""``app.log``: Celery's view of the log of a program."""

from __future__ import annotations

import logging
import sys
from typing import TYPE_CHECKING, Any

from msgspec.structs import replace

from umbel.log import setup
from umbel.log.redirecting import log_streams

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
        number = redirect_level if isinstance(redirect_level, int) else logging.getLevelNamesMapping()[redirect_level]
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

    def get_default_logger(self, name: str = "umbel", **kwargs: Any) -> logging.Logger:
        return logging.getLogger(name)
