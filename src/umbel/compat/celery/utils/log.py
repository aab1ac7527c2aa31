"""``celery.utils.log``: loggers of tasks, levels by name, and what is printed brought into the log."""

from __future__ import annotations

import logging
import multiprocessing.util
import threading
from collections.abc import Callable, Generator, Iterable
from contextlib import contextmanager
from typing import Any

from umbel.log import TASK_LOGGER
from umbel.log import get_task_logger as _task_logger

__all__ = [
    "LOG_LEVELS",
    "ColorFormatter",
    "LoggingProxy",
    "base_logger",
    "get_logger",
    "get_multiprocessing_logger",
    "get_task_logger",
    "in_sighandler",
    "mlevel",
    "reset_multiprocessing_logger",
    "set_in_sighandler",
]


_NAMES = ("CRITICAL", "FATAL", "ERROR", "WARN", "WARNING", "INFO", "DEBUG", "NOTSET")

LOG_LEVELS: dict[Any, Any] = {
    **{name: getattr(logging, name) for name in _NAMES},
    **{getattr(logging, name): name for name in _NAMES if name not in ("FATAL", "WARN")},
}
"""Numbers of levels by their names, and names by their numbers."""

RESERVED_LOGGER_NAMES = frozenset({"celery", "celery.task"})

base_logger = logging.getLogger("celery")
task_logger = logging.getLogger(TASK_LOGGER)
worker_logger = logging.getLogger("celery.worker")

_in_sighandler = False


def set_in_sighandler(value: bool) -> None:
    """Note whether a handler of a signal runs."""
    global _in_sighandler
    _in_sighandler = value


@contextmanager
def in_sighandler() -> Generator[None]:
    """A handler of a signal runs meanwhile."""
    set_in_sighandler(True)
    try:
        yield
    finally:
        set_in_sighandler(False)


def get_logger(name: str) -> logging.Logger:
    """The logger of that name."""
    return logging.getLogger(name)


def get_task_logger(name: str) -> logging.Logger:
    """The logger ``name`` below that of all tasks. Raises RuntimeError for names that are not a project's own."""
    if name in RESERVED_LOGGER_NAMES:
        raise RuntimeError(f"the logger {name!r} is reserved; use the name of your module: get_task_logger(__name__)")
    return _task_logger(name)


def mlevel(level: Any) -> Any:
    """The number of a level given by name or number; None and 0 as they are. Raises KeyError for an unknown name."""
    return LOG_LEVELS[level.upper()] if level and not isinstance(level, int) else level


def get_multiprocessing_logger() -> logging.Logger:
    """The logger of ``multiprocessing``."""
    return multiprocessing.util.get_logger()


def reset_multiprocessing_logger() -> None:
    """Forget the logger of ``multiprocessing``; the next call makes it again."""
    multiprocessing.util._logger = None  # pyright: ignore[reportAttributeAccessIssue]


def _painter(code: str) -> Callable[[Any], str]:
    def paint(text: Any) -> str:
        return f"\x1b[{code}m{text}\x1b[0m"

    return paint


class ColorFormatter(logging.Formatter):
    """Lines in the colour of their level. ``colors`` says which; the values are functions from text to text."""

    COLORS = {
        name: _painter(f"1;{30 + number}")
        for number, name in enumerate(("black", "red", "green", "yellow", "blue", "magenta", "cyan", "white"))
    }
    colors: dict[str, Callable[[Any], str]] = {
        "DEBUG": COLORS["blue"],
        "WARNING": COLORS["yellow"],
        "ERROR": COLORS["red"],
        "CRITICAL": COLORS["magenta"],
    }

    def __init__(self, fmt: str | None = None, use_color: bool = True, datefmt: str | None = None) -> None:
        super().__init__(fmt, datefmt)
        self.use_color = use_color

    def formatException(self, ei: Any) -> str:
        text = super().formatException(ei)
        return self.COLORS["red"](text) if self.use_color else text

    def format(self, record: logging.LogRecord) -> str:
        text = super().format(record)
        paint = self.colors.get(record.levelname)
        return paint(text) if self.use_color and paint is not None else text


class LoggingProxy:
    """A file that writes each line to a logger. ``loglevel``: a number or name, by default ERROR or the logger's."""

    mode = "w"
    name: str | None = None
    closed = False
    loglevel: int = logging.ERROR

    def __init__(self, logger: logging.Logger, loglevel: Any = None) -> None:
        self.logger = logger
        self.loglevel = mlevel(loglevel or self.logger.level or self.loglevel)
        self._thread = threading.local()

    def write(self, data: str | bytes) -> int:
        """Log ``data`` unless it is blank; how many characters that were."""
        if _in_sighandler or self.closed or getattr(self._thread, "writing", False):
            return 0
        text = data.decode(errors="replace") if isinstance(data, bytes) else data
        line = text.strip()
        if not line:
            return 0
        self._thread.writing = True
        try:
            self.logger.log(self.loglevel, "%s", line)
        finally:
            self._thread.writing = False
        return len(text)

    def writelines(self, sequence: Iterable[str]) -> None:
        for part in sequence:
            self.write(part)

    def flush(self) -> None:
        """There is nothing to flush."""

    def close(self) -> None:
        """Log nothing more."""
        self.closed = True

    def isatty(self) -> bool:
        return False
