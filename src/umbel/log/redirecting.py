"""What tasks print goes to the log, line by line, with the task's name and id."""

from __future__ import annotations

import io
import logging
import sys
import threading
from typing import Any, TextIO

LOGGER = "umbel.redirected"


class LogStream(io.TextIOBase):
    """Stands for ``sys.stdout`` or ``sys.stderr``: each line that is written becomes a record.

    A line that is not ended is kept until it is, or until ``flush``. ``fileno`` and ``buffer`` are those of the stream
    in whose place it stands, so that what writes bytes or starts processes works as before, past the log.
    """

    def __init__(self, logger: logging.Logger, level: int, replaced: TextIO) -> None:
        super().__init__()
        self.logger = logger
        self.level = level
        self.replaced = replaced
        self._here = threading.local()

    def write(self, text: str, /) -> int:
        if getattr(self._here, "logging", False):  # logging itself complains: not into the log again
            return self.replaced.write(text)
        *lines, rest = (getattr(self._here, "rest", "") + text).split("\n")
        self._here.rest = rest
        for line in lines:
            self._log(line)
        return len(text)

    def flush(self) -> None:
        rest, self._here.rest = getattr(self._here, "rest", ""), ""
        self._log(rest)

    def _log(self, line: str) -> None:
        if not line.strip() or getattr(self._here, "logging", False):
            return
        self._here.logging = True
        try:
            self.logger.log(self.level, "%s", line.rstrip())
        finally:
            self._here.logging = False

    def fileno(self) -> int:
        return self.replaced.fileno()

    def isatty(self) -> bool:
        return False

    def writable(self) -> bool:
        return True

    @property
    def buffer(self) -> Any:
        return self.replaced.buffer

    @property
    def encoding(self) -> str:  # pyright: ignore[reportIncompatibleVariableOverride]
        return self.replaced.encoding


def log_streams(level: int) -> tuple[LogStream | None, LogStream | None]:
    """What may stand for ``sys.stdout`` and ``sys.stderr`` to log at ``level``, by the logger ``umbel.redirected``.

    None where this process has no such stream. Made before executors are forked, so that each need only take them.
    """
    logger = logging.getLogger(LOGGER)
    out, err = sys.stdout, sys.stderr
    return LogStream(logger, level, out) if out else None, LogStream(logger, level, err) if err else None
