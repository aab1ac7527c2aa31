"""Log lines: text with ``key=value`` pairs, JSON, or a pattern of ``logging``.

A record's ``data`` (``logger.info("ready", extra={"data": {...}})``) is written as pairs or as members of the JSON
object. While a task runs its name and id are among them.
"""

from __future__ import annotations

import datetime
import logging
import re
from typing import Any, cast

import msgspec

from umbel.current import current_request

_COLOURS = {"DEBUG": "\x1b[2m", "WARNING": "\x1b[33m", "ERROR": "\x1b[31m", "CRITICAL": "\x1b[1;31m"}
_RESET = "\x1b[0m"
_TO_QUOTE = re.compile(r'[ "=\n]')


class TextFormatter(logging.Formatter):
    """``2026-11-23 05:20:01.123 INFO    umbel.task: task succeeded task=add id=… runtime=0.001``"""

    def __init__(self, color: bool = False) -> None:
        super().__init__()
        self.color = color
        self._second = (0, "")
        """The last second that was written, and its text."""

    def format(self, record: logging.LogRecord) -> str:
        seconds = int(record.created)
        second = self._second
        if second[0] != seconds:
            text = datetime.datetime.fromtimestamp(seconds).strftime("%Y-%m-%d %H:%M:%S")
            second = self._second = seconds, text
        line = (
            f"{second[1]}.{int(record.msecs):03d} {record.levelname:<7} {record.name}: "
            f"{_with_pairs(record.getMessage(), data_of(record))}"
        )
        return _coloured(_with_trace(self, line, record), record) if self.color else _with_trace(self, line, record)


class JSONFormatter(logging.Formatter):
    """One JSON object a line: time (ISO 8601, UTC), level, logger, event, pid, and the record's data."""

    def format(self, record: logging.LogRecord) -> str:
        entry: dict[str, Any] = {
            "time": datetime.datetime.fromtimestamp(record.created, datetime.UTC).isoformat(),
            "level": record.levelname,
            "logger": record.name,
            "event": record.getMessage(),
            "pid": record.process,
            **data_of(record),
        }
        if record.exc_info:
            entry["exception"] = self.formatException(record.exc_info)
        return msgspec.json.encode(entry, enc_hook=repr).decode()


class PatternFormatter(logging.Formatter):
    """Lines by ``%``-patterns as the settings ``worker_log_format`` and ``worker_task_log_format`` give them.

    The second one holds for what is logged while a task runs; ``%(task_name)s`` and ``%(task_id)s`` are known there.
    ``process`` stands for ``%(processName)s``. A record's data follows its message.
    """

    def __init__(
        self,
        pattern: str,
        datefmt: str | None = None,
        *,
        task_pattern: str | None = None,
        task_datefmt: str | None = None,
        color: bool = False,
        process: str = "MainProcess",
    ) -> None:
        """Raises ValueError when a pattern is not valid."""
        nothing = {"task_name": "???", "task_id": "???"}
        super().__init__(pattern, datefmt, defaults=nothing)
        self.color = color
        self.process = process
        self._of_tasks = (
            PatternFormatter(task_pattern, task_datefmt, color=color, process=process) if task_pattern else None
        )

    def format(self, record: logging.LogRecord) -> str:
        request = current_request()
        if request is not None:
            record.task_name, record.task_id = request.task, request.id
            if self._of_tasks is not None:
                return self._of_tasks.format(record)
        record.processName = self.process
        text = super().format(record)
        return _coloured(text, record) if self.color else text

    def formatMessage(self, record: logging.LogRecord) -> str:
        record.message = _with_pairs(record.message, own_data_of(record))
        return super().formatMessage(record)


def own_data_of(record: logging.LogRecord) -> dict[str, Any]:
    """The record's ``data``."""
    data: object = getattr(record, "data", None)
    return cast("dict[str, Any]", data) if isinstance(data, dict) else {}


def data_of(record: logging.LogRecord) -> dict[str, Any]:
    """The record's ``data`` and, while a task runs, that task's name and id, unless the record names another."""
    data = own_data_of(record)
    request = current_request()
    if request is None or "id" in data:
        return data
    return {"task": request.task, "id": request.id} | data


def _with_pairs(message: str, data: dict[str, Any]) -> str:
    first, newline, rest = message.partition("\n")
    return first + "".join(f" {key}={_plain(value)}" for key, value in data.items()) + newline + rest


def _with_trace(formatter: logging.Formatter, line: str, record: logging.LogRecord) -> str:
    if record.exc_info:
        line += "\n" + formatter.formatException(record.exc_info)
    return line + "\n" + formatter.formatStack(record.stack_info) if record.stack_info else line


def _coloured(text: str, record: logging.LogRecord) -> str:
    colour = _COLOURS.get(record.levelname)
    return f"{colour}{text}{_RESET}" if colour else text


def _plain(value: object) -> str:
    text = str(value)
    return text if text and _TO_QUOTE.search(text) is None else msgspec.json.encode(text).decode()
