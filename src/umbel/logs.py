"""Logging of the command-line programs: structured lines on standard ``logging``.

A record's ``data`` (``logger.info("ready", extra={"data": {...}})``) is written as ``key=value`` pairs, or as members
of one JSON object a line. Colours only on a terminal, and not when ``NO_COLOR`` is set.
"""

from __future__ import annotations

import datetime
import logging
import os
import sys
from typing import IO, Any, Literal, cast

import msgspec

Style = Literal["text", "json"]

_COLOURS = {"DEBUG": "\x1b[2m", "WARNING": "\x1b[33m", "ERROR": "\x1b[31m", "CRITICAL": "\x1b[1;31m"}
_RESET = "\x1b[0m"

_configured: dict[str, Any] = {}


def configure(
    level: str | int = "INFO", style: Style = "text", file: str | None = None, color: bool | None = None
) -> None:
    """Send all records from ``level`` on to ``file``, or to standard error. Replaces handlers set here before."""
    _configured.update(level=level, style=style, file=file, color=color)
    stream: IO[str] = open(file, "a", encoding="utf-8", buffering=1) if file else sys.stderr  # noqa: SIM115
    if color is None:
        color = not file and stream.isatty() and "NO_COLOR" not in os.environ
    handler = logging.StreamHandler(stream)
    handler.setFormatter(JSONFormatter() if style == "json" else TextFormatter(color))
    root = logging.getLogger()
    for old in [each for each in root.handlers if isinstance(each.formatter, (JSONFormatter, TextFormatter))]:
        root.removeHandler(old)
    root.addHandler(handler)
    root.setLevel(level)


def configuration() -> dict[str, Any]:
    """The arguments of the last ``configure``, for another process to do the same."""
    return dict(_configured)


class TextFormatter(logging.Formatter):
    """``2026-11-23 05:20:01.123 INFO    umbel.task: task succeeded task=add id=… runtime=0.001``"""

    def __init__(self, color: bool = False) -> None:
        super().__init__()
        self.color = color

    def format(self, record: logging.LogRecord) -> str:
        moment = datetime.datetime.fromtimestamp(record.created)
        message = record.getMessage()
        first, newline, rest = message.partition("\n")
        pairs = "".join(f" {key}={_plain(value)}" for key, value in _data(record).items())
        line = f"{moment:%Y-%m-%d %H:%M:%S}.{int(record.msecs):03d} {record.levelname:<7} {record.name}: {first}{pairs}"
        if newline:
            line += newline + rest
        if record.exc_info:
            line += "\n" + self.formatException(record.exc_info)
        colour = _COLOURS.get(record.levelname) if self.color else None
        return f"{colour}{line}{_RESET}" if colour else line


class JSONFormatter(logging.Formatter):
    """One JSON object a line: time (ISO 8601, UTC), level, logger, event, pid, and the record's data."""

    def format(self, record: logging.LogRecord) -> str:
        entry: dict[str, Any] = {
            "time": datetime.datetime.fromtimestamp(record.created, datetime.UTC).isoformat(),
            "level": record.levelname,
            "logger": record.name,
            "event": record.getMessage(),
            "pid": record.process,
            **_data(record),
        }
        if record.exc_info:
            entry["exception"] = self.formatException(record.exc_info)
        return msgspec.json.encode(entry, enc_hook=repr).decode()


def _data(record: logging.LogRecord) -> dict[str, Any]:
    data: object = getattr(record, "data", None)
    return cast("dict[str, Any]", data) if isinstance(data, dict) else {}


def _plain(value: object) -> str:
    text = str(value)
    return text if text and not any(char in ' "=\n' for char in text) else msgspec.json.encode(text).decode()
