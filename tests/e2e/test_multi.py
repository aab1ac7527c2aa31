"""``umbel multi`` on real nodes."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from processes import runs
from umbel.pidfile import holder
from workers import TESTS, Fleet, wait_for


class Nodes:
    """Runs ``umbel multi`` with its files in one directory; nothing is left running."""

    def __init__(self, directory: Path, environment: dict[str, str]) -> None:
        self.directory = directory
        self.environment = environment

    def __call__(self, action: str, *words: str, app: str = "apps.ledger") -> subprocess.CompletedProcess[str]:
        files = (f"--pidfile={self.directory}/%n.pid", f"--logfile={self.directory}/%n%I.log", "--suffix=here")
        return self.umbel("multi", action, *words, *files, app=app)

    def umbel(self, *words: str, app: str = "apps.ledger") -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", "umbel", "-A", app, *words],
            cwd=TESTS,
            env=os.environ | self.environment,
            capture_output=True,
            text=True,
            timeout=90,
        )

    def pids(self) -> dict[str, int]:
        """Live nodes."""
        found = {path.stem: holder(path) for path in self.directory.glob("*.pid")}
        return {name: pid for name, pid in found.items() if pid}

    def log(self, name: str) -> str:
        path = self.directory / f"{name}.log"
        return path.read_text() if path.exists() else ""


@pytest.fixture
def multi(nodes: Fleet, tmp_path: Path) -> Iterator[Nodes]:
    made = Nodes(tmp_path / "files", nodes.environment)
    yield made
    for pid in made.pids().values():
        os.kill(pid, signal.SIGKILL)


def test_nodes_are_started_restarted_and_stopped(multi: Nodes) -> None:
    done = multi("start", "2", "-c", "1", "-c:2", "2")
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines() == ["starting nodes:", "  umbel1@here: OK", "  umbel2@here: OK"]
    first = multi.pids()
    assert set(first) == {"umbel1", "umbel2"}
    for name, pid in first.items():
        wait_for(lambda name=name: "umbel.worker: ready node=" + name in multi.log(name), 20)
        executors = int(name[-1])
        assert len(psutil.Process(pid).children(recursive=True)) == 1 + executors
    assert multi.umbel("health", "-n", "umbel2@here").returncode == 0
    assert multi.umbel("call", "apps.ledger.add", "1", "2", "--timeout", "20").stdout == "3\n"

    again = multi("start", "2", "-c", "1")
    assert again.returncode == 1
    assert "umbel1@here: FAILED" in again.stdout and f"as process {first['umbel1']}" in again.stderr
    assert multi.pids() == first

    done = multi("restart", "2", "-c", "1", "--verbose")
    assert done.returncode == 0, done.stderr
    assert f"umbel1@here: TERM -> {first['umbel1']}" in done.stdout and " worker --detach -n umbel2@here" in done.stdout
    second = multi.pids()
    assert set(second) == {"umbel1", "umbel2"} and not set(first.values()) & set(second.values())

    done = multi("stopwait", "2", "--quiet")
    assert (done.returncode, done.stdout) == (0, "")
    assert multi.pids() == {} and not list(multi.directory.glob("*.pid"))
    assert not any(map(runs, second.values()))

    done = multi("stop", "2")
    assert done.returncode == 0 and "umbel1@here: does not run" in done.stdout


def test_stopwait_waits_for_what_runs_and_stop_does_not(multi: Nodes, nodes: Fleet) -> None:
    assert multi("start", "a", "-c", "1").returncode == 0
    multi.umbel("call", "apps.ledger.record", "4")
    wait_for(lambda: len(nodes.ledger.running()) == 1, 20)
    done = multi("stopwait", "a")
    assert done.returncode == 0 and "waiting for 1 node: ." in done.stdout
    assert not multi.pids() and len(nodes.ledger.ended()) == 1

    assert multi("start", "a", "-c", "1").returncode == 0
    multi.umbel("call", "apps.ledger.record", "6")
    wait_for(lambda: len(nodes.ledger.running()) == 1, 20)
    done = multi("stop", "a")
    assert done.returncode == 0 and "waiting" not in done.stdout
    assert "a" in multi.pids() and len(nodes.ledger.ended()) == 1
    wait_for(lambda: not multi.pids(), 20)
    assert len(nodes.ledger.ended()) == 2


def test_kill_gives_the_work_to_others(multi: Nodes, nodes: Fleet) -> None:
    assert multi("start", "a", "b", "-c", "1").returncode == 0
    multi.umbel("call", "apps.ledger.record", "2")
    wait_for(lambda: len(nodes.ledger.running()) == 1, 20)
    (entry,) = nodes.ledger.entries()
    nursery = psutil.Process(entry.pid).ppid()
    victim = psutil.Process(nursery).ppid()
    name = next(name for name, pid in multi.pids().items() if pid == victim)
    assert multi("kill", name).returncode == 0
    assert name not in multi.pids() and not (multi.directory / f"{name}.pid").exists()
    wait_for(lambda: nodes.ledger.ended(), 30)
    assert multi("stopwait", "a", "b").returncode == 0


def test_a_node_that_cannot_start_says_why(multi: Nodes) -> None:
    done = multi("start", "a", app="no_such_module")
    assert done.returncode == 1
    assert "a@here: FAILED" in done.stdout and "no_such_module" in done.stderr


def test_what_would_be_run_can_be_seen(multi: Nodes) -> None:
    done = multi("show", "2", "-Q:2", "images", "--executable=/opt/python")
    lines = done.stdout.splitlines()
    assert len(lines) == 2
    assert lines[1].startswith("/opt/python -m umbel -A apps.ledger worker --detach -n umbel2@here --pidfile=")
    assert lines[1].endswith(" -Q images")
    assert multi("names", "a", "b").stdout == "a@here\nb@here\n"
    done = multi("expand", "/var/%n/%h-%p", "a", "b")
    assert done.stdout == "/var/a/here-a@here\n/var/b/here-b@here\n"
    assert multi("get", "b", "a", "b", "-c:b", "7", "-E").stdout == "-c 7 -E\n"
    done = multi("begin", "a")
    assert done.returncode == 2 and "No such action 'begin'; there are expand, get, kill" in done.stderr
