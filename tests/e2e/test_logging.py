"""What workers log: the lines of tasks, what they print, formats, files, and the stacks of all processes."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from workers import TESTS, Fleet, WorkerProcess, fleet, wait_for

SAYING = ("to the task's logger: ", "to a logger of a library: ", "printed: ", "complained: ")


@pytest.fixture
def nodes(tmp_path: Path) -> Iterator[Fleet]:
    url = f"sqlite:///{tmp_path}/umbel.db"
    with fleet(tmp_path, url, url, UMBEL_RUNTIME_DIR=str(tmp_path / "run")) as made:
        yield made


def call(nodes: Fleet, task: str, *arguments: str, wait: bool = True) -> str:
    options = ("--timeout", "20") if wait else ()
    done = subprocess.run(
        [sys.executable, "-m", "umbel", "-A", "apps.ledger", "call", f"apps.ledger.{task}", *arguments, *options],
        cwd=TESTS,
        env=os.environ | nodes.environment,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def lines(worker: WorkerProcess, text: str) -> list[str]:
    return [line for line in worker.output().splitlines() if text in line]


def test_each_line_of_a_task_has_its_name_and_id(nodes: Fleet) -> None:
    worker = nodes.start("-c", "1")
    task_id = call(nodes, "say", "hello", wait=False)
    wait_for(lambda: lines(worker, "task succeeded"), 20)
    for saying in SAYING:
        (line,) = lines(worker, saying)
        assert line.endswith(f"{saying}hello task=apps.ledger.say id={task_id}"), line
    assert "INFO    apps.ledger: to the task's" in worker.output()
    assert "WARNING library: to a logger" in worker.output()
    assert "WARNING umbel.redirected: printed" in worker.output()
    assert "\x1b[" not in worker.output()


def test_lines_in_json_have_them_as_members(nodes: Fleet) -> None:
    log = nodes.directory / "log"
    nodes.start("-c", "1", "--log-format", "json", "-f", str(log), ready=False)
    wait_for(lambda: log.exists() and '"event":"ready"' in log.read_text(), 20)
    task_id = call(nodes, "say", 'a "b"\nc', wait=False)
    wait_for(lambda: "task succeeded" in log.read_text(), 20)
    records = [json.loads(line) for line in log.read_text().splitlines()]
    said = [record for record in records if record.get("task") == "apps.ledger.say"]
    assert {record["id"] for record in said} == {task_id}
    assert [record["event"] for record in said if record["logger"] == "apps.ledger"] == [SAYING[0] + 'a "b"\nc']
    assert [record["event"] for record in said if record["logger"] == "umbel.redirected"] == [
        *(SAYING[2] + 'a "b"', "c"),
        *(SAYING[3] + 'a "b"', "c"),
    ]


def test_formats_of_celery_are_kept_to(nodes: Fleet) -> None:
    worker = nodes.start(
        *("-c", "1"),
        environment={
            "UMBEL_WORKER_LOG_FORMAT": "%(levelname)s|%(processName)s|umbel.worker: %(message)s",
            "UMBEL_WORKER_TASK_LOG_FORMAT": "%(asctime)s|%(processName)s|%(task_name)s[%(task_id)s]|%(message)s",
            "UMBEL_WORKER_TASK_LOG_DATEFMT": "%H hours",
            "UMBEL_WORKER_REDIRECT_STDOUTS_LEVEL": "info",
            "UMBEL_WORKER_LOG_COLOR": "1",
        },
    )
    task_id = call(nodes, "say", "hello", wait=False)
    wait_for(lambda: lines(worker, "task succeeded"), 20)
    (line,) = lines(worker, SAYING[0])
    assert re.fullmatch(rf"\d\d hours\|Executor-1\|apps.ledger.say\[{task_id}\]\|{SAYING[0]}hello", line)
    assert lines(worker, SAYING[1])[0].startswith("\x1b[33m")
    assert not lines(worker, SAYING[2])[0].startswith("\x1b["), "what is printed has the level info"
    (line,) = lines(worker, "task succeeded")
    assert line.startswith(f"INFO|MainProcess|umbel.worker: task succeeded task=apps.ledger.say id={task_id} runtime=")


def test_printing_can_be_left_alone(nodes: Fleet) -> None:
    worker = nodes.start("-c", "1", environment={"UMBEL_WORKER_REDIRECT_STDOUTS": "0"})
    call(nodes, "say", "hello", wait=False)
    wait_for(lambda: lines(worker, "task succeeded"), 20)
    assert lines(worker, "printed: ") == ["printed: hello"] and lines(worker, "complained: ") == ["complained: hello"]


def test_handlers_of_the_program_are_replaced_or_kept(nodes: Fleet) -> None:
    own = {"LEDGER_HANDLER": "1"}
    worker = nodes.start("-c", "1", environment=own)
    assert "own handler" not in worker.output()
    worker.stop()
    worker = nodes.start("-c", "1", environment=own | {"UMBEL_WORKER_HIJACK_ROOT_LOGGER": "0"}, ready=False)
    wait_for(lambda: "own handler: ready" in worker.output(), 20)
    assert "umbel.worker: ready" not in worker.output()
    call(nodes, "say", "hello", wait=False)
    wait_for(lambda: "own handler: task succeeded" in worker.output(), 20)


def test_a_log_file_that_was_moved_away_is_made_anew(nodes: Fleet) -> None:
    log = nodes.directory / "log"
    nodes.start("-c", "1", "-f", str(log), ready=False)
    wait_for(lambda: log.exists() and "ready" in log.read_text(), 20)
    log.rename(nodes.directory / "log.1")
    call(nodes, "say", "hello", wait=False)
    wait_for(lambda: log.exists() and "task succeeded" in log.read_text() and SAYING[0] in log.read_text(), 20)


def test_a_wrong_format_is_one_line(nodes: Fleet) -> None:
    worker = nodes.start("-c", "1", environment={"UMBEL_WORKER_LOG_FORMAT": "%(message"}, ready=False)
    assert worker.process.wait(20) == 1
    assert "worker_log_format or worker_task_log_format: " in worker.output()
    assert len(worker.output().splitlines()) == 1


def test_usr1_shows_the_stacks_of_all_processes(nodes: Fleet) -> None:
    worker = nodes.start("-c", "2")
    task_id = call(nodes, "record", "20", wait=False)
    wait_for(lambda: len(nodes.ledger.running()) == 1, 20)
    worker.send_signal(signal.SIGUSR1)
    wait_for(lambda: worker.output().count("stacks of the executor follow") == 2, 10)
    wait_for(lambda: worker.output().count("in record") >= 1, 10)
    text = worker.output()
    assert "stacks of the supervisor are above" in text and "stacks of the nursery follow" in text
    assert re.search(rf"executor follow pid=\d+ task=apps.ledger.record id={task_id} running_for=\d", text)
    for function in ("in _receive", "in _renew", "in _settle", "in run_forever", "in _step", "in record"):
        assert function in text, function
    assert worker.process.poll() is None and len(worker.executors()) == 2
    assert worker.stop(signal.SIGQUIT) == 0


def test_usr1_shows_a_supervisor_that_hangs_and_one_that_just_started(nodes: Fleet) -> None:
    log = nodes.directory / "log"
    worker = nodes.start("-c", "1", "-f", str(log), environment={"LEDGER_BROKER": "redis://127.0.0.1:1/0"}, ready=False)
    wait_for(lambda: log.exists() and "cannot be reached" in log.read_text(), 20)
    worker.send_signal(signal.SIGUSR1)
    wait_for(lambda: "in run_forever" in log.read_text() and "in receive" in log.read_text(), 10)
    assert worker.output() == ""
    started = time.monotonic()
    assert worker.stop() == 0
    assert time.monotonic() - started < 10
