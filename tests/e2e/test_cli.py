"""The ``umbel`` command as people run it: processes of its own, a worker, pipes, a terminal."""

from __future__ import annotations

import fcntl
import json
import os
import pty
import signal
import struct
import subprocess
import sys
import termios
from collections.abc import Iterator
from pathlib import Path

import pytest

from workers import TESTS, Fleet, fleet, wait_for


@pytest.fixture
def nodes(tmp_path: Path) -> Iterator[Fleet]:
    """Workers on an embedded broker of this test's own."""
    url = f"sqlite:///{tmp_path}/umbel.db"
    with fleet(tmp_path, url, url) as made:
        yield made


def environment(nodes: Fleet) -> dict[str, str]:
    plain = {key: value for key, value in os.environ.items() if not key.startswith("UMBEL_") and key != "NO_COLOR"}
    return {**plain, **nodes.environment}


def umbel(nodes: Fleet, *arguments: str, stdin: str = "", app: str = "apps.ledger") -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "umbel", "-A", app, *arguments],
        cwd=TESTS,
        env=environment(nodes),
        input=stdin,
        capture_output=True,
        text=True,
        timeout=60,
    )


def test_call_and_result_with_a_worker(nodes: Fleet) -> None:
    nodes.start("-c", "1")
    done = umbel(nodes, "call", "apps.ledger.add", "2", "2", "--wait")
    assert (done.returncode, done.stdout, done.stderr) == (0, "4\n", "")
    done = umbel(nodes, "call", "apps.ledger.big", "3", "--timeout", "20")
    assert (done.returncode, done.stdout) == (0, "xxx\n")
    done = umbel(nodes, "call", "apps.ledger.fail", "no such luck", "--wait")
    assert (done.returncode, done.stdout) == (1, "")
    assert "ended as FAILURE: ValueError: no such luck" in done.stderr and len(done.stderr.splitlines()) == 1
    done = umbel(nodes, "call", "apps.ledger.fail", "no such luck", "--wait", "--json")
    document = json.loads(done.stdout)
    assert done.returncode == 1 and document["state"] == "FAILURE" and "ValueError" in document["traceback"]
    done = umbel(nodes, "call", "apps.ledger.record", "3", "--timeout", "0.3")
    assert done.returncode == 124 and "no result of task" in done.stderr

    task_id = umbel(nodes, "call", "apps.ledger.succeed_at", "2").stdout.strip()
    done = umbel(nodes, "result", task_id, "--wait")
    assert done.returncode == 0 and "SUCCESS" in done.stdout, done.stdout + done.stderr
    done = umbel(nodes, "result", task_id, "--json")
    assert json.loads(done.stdout)["result"] == 2


def test_queues_and_purge_and_parked_tasks(nodes: Fleet) -> None:
    for _ in range(3):
        umbel(nodes, "call", "apps.ledger.add", "1", "1", "--countdown", "100")
    umbel(nodes, "call", "unknown.task", "1")
    nodes.start("-c", "1")
    wait_for(lambda: "unknown.task" in umbel(nodes, "queues").stdout, 20, "the unknown task is parked")
    done = umbel(nodes, "queues", "--json")
    (document,) = json.loads(done.stdout)
    assert document == {
        "queue": "celery",
        "ready": 0,
        "delayed": 3,
        "held": 0,
        "parked": 1,
        "dead": 0,
        "parked_tasks": {"unknown.task": 1},
    }
    done = umbel(nodes, "purge", stdin="y\n")
    assert done.stdout == "celery: 3 messages removed\n"
    assert json.loads(umbel(nodes, "queues", "--json").stdout)[0]["delayed"] == 0


def test_dead_letters_of_a_task_that_kills_its_worker(nodes: Fleet) -> None:
    nodes.start("-c", "1")
    task_id = umbel(nodes, "call", "apps.ledger.misbehave", "kill").stdout.strip()
    wait_for(lambda: task_id in umbel(nodes, "dlq", "list").stdout, 40, "the task is dead-lettered")
    document = json.loads(umbel(nodes, "dlq", "show", task_id, "--json").stdout)
    assert document["args"] == ["kill"] and "SIGKILL" in document["reason"], document
    done = umbel(nodes, "dlq", "purge", "--all", "--force")
    assert (done.returncode, done.stdout) == (0, "1 message removed\n")
    assert len(umbel(nodes, "dlq", "list").stdout.splitlines()) == 1


def test_watching_queues_ends_with_ctrl_c(nodes: Fleet) -> None:
    command = [sys.executable, "-m", "umbel", "-A", "apps.ledger", "queues", "--watch", "0.1", "--json"]
    watching = subprocess.Popen(
        command, cwd=TESTS, env=environment(nodes), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    assert watching.stdout is not None
    lines = [watching.stdout.readline() for _ in range(3)]
    assert all(json.loads(line)[0]["queue"] == "celery" for line in lines)
    watching.send_signal(signal.SIGINT)
    _, errors = watching.communicate(timeout=20)
    assert (watching.returncode, errors) == (0, "")


@pytest.mark.parametrize("no_color", [True, False])
def test_tables_and_colours_on_a_terminal(nodes: Fleet, no_color: bool) -> None:
    above, below = pty.openpty()
    fcntl.ioctl(below, termios.TIOCSWINSZ, struct.pack("HHHH", 40, 100, 0, 0))
    process = subprocess.Popen(
        [sys.executable, "-m", "umbel", "-A", "apps.ledger", "queues"],
        cwd=TESTS,
        env=environment(nodes) | {"TERM": "xterm-256color"} | ({"NO_COLOR": "1"} if no_color else {}),
        stdout=below,
    )
    os.close(below)
    assert process.wait(30) == 0
    text = _read_all(above)
    assert "parked tasks" in text and "──" in text
    assert ("\x1b[1m" in text) or no_color
    assert "\x1b[3" not in text.replace("\x1b[39m", "") or not no_color


def _read_all(terminal: int) -> str:
    text = b""
    while True:
        try:
            data = os.read(terminal, 65536)
        except OSError:
            data = b""
        if not data:
            os.close(terminal)
            return text.decode()
        text += data


def test_errors_are_one_line(nodes: Fleet) -> None:
    done = umbel(nodes, "queues", app="no_such_module")
    assert done.returncode == 1 and done.stdout == ""
    assert done.stderr == "umbel: cannot find the application 'no_such_module': there is no module no_such_module\n"
    done = umbel(nodes, "--debug", "queues", app="no_such_module")
    assert done.returncode == 1 and done.stderr.startswith("Traceback")
    done = umbel(nodes, "--broker", "redis://127.0.0.1:1", "queues")
    assert done.returncode == 1 and len(done.stderr.splitlines()) == 1, done.stderr


def test_a_closed_pipe_is_no_error(nodes: Fleet) -> None:
    command = f"{sys.executable} -m umbel -A apps.ledger config --json | head -1"
    done = subprocess.run(command, shell=True, cwd=TESTS, env=environment(nodes), capture_output=True, text=True)
    assert (done.stdout, done.stderr) == ("{\n", "")
