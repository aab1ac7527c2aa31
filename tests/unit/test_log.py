"""Loggers of tasks, and streams that log what is written to them."""

from __future__ import annotations

import io
import logging

import pytest

from umbel.log import get_task_logger
from umbel.log.redirecting import LogStream


def test_loggers_of_tasks_stand_below_one_logger(caplog: pytest.LogCaptureFixture) -> None:
    logger = get_task_logger("some.module")
    assert logger is logging.getLogger("some.module") and logger.parent is logging.getLogger("umbel.task")
    logging.getLogger("umbel.task").setLevel("ERROR")
    try:
        assert not logger.isEnabledFor(logging.WARNING)
    finally:
        logging.getLogger("umbel.task").setLevel("NOTSET")
    with pytest.raises(ValueError, match="belongs to Umbel"):
        get_task_logger("umbel.worker")


@pytest.fixture
def stream() -> LogStream:
    logger = logging.getLogger("test.redirected")
    return LogStream(logger, logging.WARNING, io.TextIOWrapper(io.BytesIO(), encoding="utf-8"))


def test_each_line_is_a_record(stream: LogStream, caplog: pytest.LogCaptureFixture) -> None:
    print("a", 1, file=stream)
    stream.write("b")
    assert [record.getMessage() for record in caplog.records] == ["a 1"]
    stream.write("c\n\n   \nd %s\n e")
    stream.flush()
    stream.flush()
    assert [record.getMessage() for record in caplog.records] == ["a 1", "bc", "d %s", " e"]
    assert {record.levelname for record in caplog.records} == {"WARNING"}


def test_a_handler_that_prints_does_not_loop(stream: LogStream) -> None:
    class Printing(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            stream.write(f"cannot log {record.getMessage()}\n")

    logger, handler = stream.logger, Printing()
    logger.addHandler(handler)
    try:
        stream.write("a\n")
    finally:
        logger.removeHandler(handler)
    stream.replaced.flush()
    assert stream.buffer.getvalue() == b"cannot log a\n"


def test_it_stands_for_the_stream_for_those_who_write_bytes(stream: LogStream) -> None:
    assert stream.writable() and not stream.isatty() and stream.encoding == "utf-8"
    stream.buffer.write(b"bytes")
    assert stream.replaced.buffer.getvalue() == b"bytes"
