"""Where log lines go: to standard error or a file, in the form that the settings ask for, in every process of a worker.

``configure`` is called once in the supervisor, before executors are forked; ``enter_executor`` in each of those.
"""

from __future__ import annotations

import logging
import os
import sys
from logging.handlers import WatchedFileHandler
from typing import IO, TYPE_CHECKING, Literal

from msgspec import Struct
from msgspec.structs import replace

from umbel.errors import ConfigurationError
from umbel.log.formatting import JSONFormatter, PatternFormatter, TextFormatter
from umbel.log.redirecting import LogStream, log_streams
from umbel.nodenames import for_process

if TYPE_CHECKING:
    from umbel.config import Settings

Style = Literal["text", "json"]


class LogSetup(Struct, kw_only=True, frozen=True):
    """How to log.

    ``file``: appended to and opened again when it was moved away (None: standard error); ``%i`` and ``%I`` in it stand
    for the process (see ``umbel.nodenames``). ``color``: None for colours on a terminal only, where ``NO_COLOR`` is not
    set. ``pattern``, ``task_pattern``: ``logging``'s ``%``-formats instead of Umbel's own lines. ``hijack``: handlers
    that the program has set on the root logger are removed; otherwise they are kept and nothing is added to them.
    ``redirect_level``: at which executors log what tasks print; None does not redirect it.
    """

    level: str | int = "INFO"
    style: Style = "text"
    file: str | None = None
    color: bool | None = None
    pattern: str | None = None
    datefmt: str | None = None
    task_pattern: str | None = None
    task_datefmt: str | None = None
    hijack: bool = True
    redirect_level: int | None = None
    process: int = 0


_current: list[LogSetup] = []
_streams: list[LogStream | None] = []


def setup_of(conf: Settings, *, level: str, style: Style | None, file: str | None) -> LogSetup:
    """What the settings say; arguments that are not None go before them. Raises ConfigurationError."""
    redirect = conf.worker_redirect_stdouts_level
    number = redirect if isinstance(redirect, int) else logging.getLevelNamesMapping().get(redirect.upper())
    if number is None:
        raise ConfigurationError(f"worker_redirect_stdouts_level must be the name of a log level, not {redirect!r}")
    return LogSetup(
        level=level,
        style=style or conf.worker_log_format_style,
        file=file or conf.worker_logfile,
        color=conf.worker_log_color,
        pattern=conf.worker_log_format,
        datefmt=conf.worker_log_datefmt,
        task_pattern=conf.worker_task_log_format,
        task_datefmt=conf.worker_task_log_datefmt,
        hijack=conf.worker_hijack_root_logger,
        redirect_level=number if conf.worker_redirect_stdouts else None,
    )


def configure(setup: LogSetup) -> None:
    """Send all records from ``setup.level`` on where ``setup`` says.

    Raises OSError when the file cannot be opened, ConfigurationError when a pattern is not valid.
    """
    root = logging.getLogger()
    handler = _handler(setup)
    kept = [] if setup.hijack else [each for each in root.handlers if not isinstance(each, (_Stream, _File))]
    for old in root.handlers[:]:
        if old not in kept:
            root.removeHandler(old)
            if isinstance(old, _File):
                old.close()
    if not kept:
        root.addHandler(handler)
    root.setLevel(setup.level)
    _current[:] = [setup]
    if not setup.process:
        _streams[:] = log_streams(setup.redirect_level) if setup.redirect_level is not None else []


def enter_executor(slot: int) -> bool:
    """Log as the executor in ``slot``: under its own process name, to its own file where the name has one for each,
    and with what tasks print. Nothing happens where this program has not called ``configure``.

    Returns whether handlers were made anew. Forked executors come here: each page touched costs microseconds.
    """
    if not _current:
        return False
    setup = _current[0]
    anew = bool(setup.pattern or setup.task_pattern or (setup.file and "%" in setup.file))
    if anew:
        configure(replace(setup, process=slot + 1))
    if _streams:
        sys.stdout, sys.stderr = _streams
    return anew


def current_setup() -> LogSetup | None:
    """What ``configure`` was called with last."""
    return _current[0] if _current else None


def log_file() -> IO[str] | None:
    """The open file that is logged to, None for standard error or handlers of the program."""
    for handler in logging.getLogger().handlers:
        if isinstance(handler, _File):
            return handler.stream
    return None


class _Stream(logging.StreamHandler[IO[str]]):
    """Umbel's own handler, on standard error."""


class _File(WatchedFileHandler):
    """Umbel's own handler, on a file."""


def _handler(setup: LogSetup) -> logging.Handler:
    color = setup.color
    if setup.file:
        handler: logging.Handler = _File(for_process(setup.file, setup.process), encoding="utf-8")
        color = bool(color)
    else:
        stream = sys.stderr
        handler = _Stream(stream)
        if color is None:
            color = stream.isatty() and "NO_COLOR" not in os.environ
    handler.setFormatter(_formatter(setup, color))
    return handler


def _formatter(setup: LogSetup, color: bool) -> logging.Formatter:
    if setup.style == "json":
        return JSONFormatter()
    if not setup.pattern and not setup.task_pattern:
        return TextFormatter(color)
    process = f"Executor-{setup.process}" if setup.process else "MainProcess"
    try:
        return PatternFormatter(
            setup.pattern or DEFAULT_PATTERN,
            setup.datefmt,
            task_pattern=setup.task_pattern or DEFAULT_TASK_PATTERN,
            task_datefmt=setup.task_datefmt,
            color=color,
            process=process,
        )
    except ValueError as error:
        raise ConfigurationError(f"worker_log_format or worker_task_log_format: {error}") from error


DEFAULT_PATTERN = "[%(asctime)s: %(levelname)s/%(processName)s] %(message)s"
DEFAULT_TASK_PATTERN = "[%(asctime)s: %(levelname)s/%(processName)s] %(task_name)s[%(task_id)s]: %(message)s"
