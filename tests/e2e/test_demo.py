"""``umbel demo`` and the examples, run as a newcomer runs them; nothing of them may stay."""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest

from workers import TESTS, wait_for

EXAMPLES = TESTS.parent / "examples"


def environment(directory: Path) -> dict[str, str]:
    """Temporary files and the embedded broker go to ``directory``; no setting comes from outside."""
    plain = {key: value for key, value in os.environ.items() if not key.startswith("UMBEL_")}
    return {**plain, "TMPDIR": str(directory), "UMBEL_HOME": str(directory / "home"), "PYTHONDONTWRITEBYTECODE": "1"}


def start_demo(directory: Path, *arguments: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "umbel", "demo", *arguments],
        cwd=directory,
        env=environment(directory),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def processes_in(directory: Path) -> list[psutil.Process]:
    """Processes whose command line or environment names the directory."""
    found: list[psutil.Process] = []
    for process in psutil.process_iter():
        try:
            named = " ".join([*process.cmdline(), *process.environ().values()])
        except psutil.Error:
            continue
        if str(directory) in named and process.status() != psutil.STATUS_ZOMBIE:
            found.append(process)
    return found


def test_demo_twice_in_a_row(tmp_path: Path) -> None:
    for _ in range(2):
        demo = start_demo(tmp_path)
        output, errors = demo.communicate(timeout=90)
        assert (demo.returncode, errors) == (0, ""), output
        assert "1,869 words in 7 texts" in output
        assert "printed contact-sheet.png at attempt 3" in output
        last = output.splitlines()[-1]
        found = re.fullmatch(r"462 tasks in ([\d.]+) s, \d+ tasks/s; 2 retries, no failures; .*", last)
        assert found, last
        assert "\x1b" not in output
        assert list(tmp_path.iterdir()) == []
        assert processes_in(tmp_path) == []


def test_demo_on_redis_leaves_no_keys(tmp_path: Path, redis_url: str) -> None:
    import redis

    with redis.Redis.from_url(redis_url) as server:
        server.set("somebody-elses", "1")
        demo = start_demo(tmp_path, "--broker", redis_url)
        output, errors = demo.communicate(timeout=90)
        assert (demo.returncode, errors) == (0, ""), output
        assert server.keys("*") == [b"somebody-elses"]
        server.flushdb()
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("server", ["rabbitmq", "postgresql", "mariadb"])
def test_demo_on_a_server(tmp_path: Path, fresh_url: Callable[[str], str], server: str) -> None:
    demo = start_demo(tmp_path, "--broker", fresh_url(server))
    output, errors = demo.communicate(timeout=90)
    assert (demo.returncode, errors) == (0, ""), output
    assert "462 tasks" in output
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("number", "again"),
    [(signal.SIGINT, False), (signal.SIGTERM, False), (signal.SIGINT, True)],
    ids=["ctrl-C", "TERM", "ctrl-C again and again"],
)
def test_interrupted_demo_cleans_up(tmp_path: Path, number: signal.Signals, again: bool) -> None:
    demo = start_demo(tmp_path)
    assert demo.stdout is not None
    wait_for(lambda: "paint" in demo.stdout.readline(), 60, "pictures are painted")
    demo.send_signal(number)
    while again and demo.poll() is None:
        with contextlib.suppress(subprocess.TimeoutExpired):
            demo.wait(0.01)
        demo.send_signal(number)
    _, errors = demo.communicate(timeout=30)
    assert demo.returncode == 130
    assert errors == "umbel: interrupted; everything is cleaned up\n"
    assert processes_in(tmp_path) == []
    assert list(tmp_path.iterdir()) == []


def test_demo_keeps_its_files_when_asked(tmp_path: Path) -> None:
    demo = start_demo(tmp_path, "--keep")
    output, _ = demo.communicate(timeout=90)
    (kept,) = tmp_path.iterdir()
    assert demo.returncode == 0 and f"kept: {kept}" in output
    assert (kept / "contact-sheet.png").read_bytes().startswith(b"\x89PNG")
    assert "ready" in (kept / "worker.log").read_text()


def test_demo_that_cannot_run_says_so_in_one_line(tmp_path: Path) -> None:
    for url, says in (("redis://127.0.0.1:1/0", "127.0.0.1:1"), ("memory://", "memory:// lives in one process")):
        demo = start_demo(tmp_path, "--broker", url)
        _, errors = demo.communicate(timeout=60)
        assert demo.returncode == 1
        assert says in errors and len(errors.splitlines()) == 1, errors
        assert list(tmp_path.iterdir()) == [] and processes_in(tmp_path) == []


@pytest.mark.parametrize(
    ("example", "app", "command", "answer"),
    [
        ("hello", "tasks", ["tasks.py"], "4\n"),
        ("wordcount", "project", ["count.py", "project.py", "count.py"], " words\n"),
        ("async_client", "service", ["client.py"], "   22 "),
        ("boot_steps", "shop", ["shop.py"], "sent: tea\n"),
    ],
)
def test_examples(tmp_path: Path, example: str, app: str, command: list[str], answer: str) -> None:
    project = shutil.copytree(EXAMPLES / example, tmp_path / "project")
    log = tmp_path / "log"
    with log.open("wb") as stream:
        worker = subprocess.Popen(
            [sys.executable, "-m", "umbel", "-A", app, "worker", "-c", "1"],
            cwd=project,
            env=environment(tmp_path),
            stdout=stream,
            stderr=stream,
        )
    try:
        done = subprocess.run(
            [sys.executable, *command],
            cwd=project,
            env=environment(tmp_path),
            capture_output=True,
            text=True,
            timeout=60,
        )
        assert (done.returncode, done.stderr) == (0, ""), log.read_text()
        assert answer in done.stdout
    finally:
        worker.terminate()
        assert worker.wait(30) == 0
