"""Tasks asked to stop do so their own way, whatever store tells them, begun or not; and a debugger inside a task."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from workers import Fleet, fleet, wait_for

TIMEOUT = 20


@pytest.fixture(params=["sqlite", "redis", "postgresql"])
def system(request: pytest.FixtureRequest) -> str:
    return request.param


@pytest.fixture
def workers(urls: tuple[str, str], tmp_path: Path) -> Iterator[Fleet]:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    with fleet(tmp_path, *urls, ABORTING_RDB_PORT=str(port)) as made:
        made.app = "apps.aborting"
        yield made


def test_a_running_task_sees_that_it_was_aborted(workers: Fleet, tasks: ModuleType) -> None:
    workers.start("-c", "1")
    result = tasks.until_aborted.delay(progress=True)
    wait_for(lambda: result.id in workers.ledger.begun(), TIMEOUT)
    assert not result.is_aborted()
    result.abort()
    assert result.get(timeout=TIMEOUT) == "stopped early"
    assert not result.is_aborted()
    result.abort()
    assert result.state == "SUCCESS"
    result.forget()
    assert not result.is_aborted()


@pytest.mark.parametrize("system", ["sqlite"])
def test_a_task_that_has_not_begun_sees_it_too(workers: Fleet, tasks: ModuleType) -> None:
    result = tasks.until_aborted.delay()
    result.abort()
    assert result.state == "ABORTED"
    assert result.is_aborted()
    workers.start("-c", "1")
    assert result.get(timeout=TIMEOUT) == "stopped early"


@pytest.mark.parametrize("system", ["sqlite"])
def test_a_debugger_inside_a_task(workers: Fleet, tasks: ModuleType) -> None:
    worker = workers.start("-c", "1")
    result = tasks.debugged.delay(2, 3)
    port = workers.environment["ABORTING_RDB_PORT"]
    wait_for(lambda: f"waiting: telnet 127.0.0.1 {port}" in worker.output(), TIMEOUT)
    with socket.create_connection(("127.0.0.1", int(port)), timeout=TIMEOUT) as session:
        talk: Any = session.makefile("rw")
        talk.write("p total\n!total = 40\nc\n")
        talk.flush()
        said = talk.read()
    assert "return total" in said
    assert "(umbel-rdb) 5" in said
    assert result.get(timeout=TIMEOUT) == 40
    wait_for(lambda: "session ended" in worker.output(), TIMEOUT)
