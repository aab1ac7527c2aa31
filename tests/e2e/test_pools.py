"""Pools as they are chosen on the command line: own ones, and those that cannot be had."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

from workers import wait_for

EXAMPLES = Path(__file__).parents[2] / "examples"


def run_worker(
    directory: Path, *arguments: str, program: tuple[str, ...] = ("-m", "umbel", "-A", "proj"), status: int = 1
) -> str:
    """``umbel worker`` that is to end at once with this status: its standard error."""
    done = subprocess.run(
        [sys.executable, *program, *(("worker", "--quiet", *arguments) if program[0] == "-m" else ())],
        cwd=directory,
        capture_output=True,
        text=True,
        timeout=30,
        env={key: value for key, value in os.environ.items() if not key.startswith("UMBEL_")},
    )
    assert done.returncode == status, done.stderr
    return done.stderr


def write_app(directory: Path, *before: str) -> None:
    text = """
        import os, threading
        from umbel import Umbel
        app = Umbel("proj", broker="sqlite:///proj.db", backend="sqlite:///proj.db")

        @app.task
        def where():
            return os.getpid(), threading.current_thread().name

        @app.task
        def rows():
            from sessions import local
            return local.session.execute("select 1").fetchone()[0]
    """
    (directory / "proj.py").write_text("\n".join([*before, textwrap.dedent(text)]))


def one_line(error: str) -> str:
    (line,) = error.splitlines()
    return line


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("-P", "greenlets"), "unknown pool 'greenlets'"),
        (("-P", "nobody_has_this:Lanes"), "cannot be imported: No module named 'nobody_has_this'"),
        (("-P", "solo", "-c", "4"), "the pool solo runs one task at a time"),
        (("-c", "4", "--processes", "2"), "contradict each other"),
    ],
)
def test_a_pool_that_cannot_be_had_is_one_line(tmp_path: Path, arguments: tuple[str, ...], words: str) -> None:
    write_app(tmp_path)
    assert words in one_line(run_worker(tmp_path, *arguments))


@pytest.mark.parametrize("arguments", [("-P", "threads", "-c", "0"), ("-c", "-2"), ("--processes", "0")])
def test_a_pool_without_lanes_is_refused(tmp_path: Path, arguments: tuple[str, ...]) -> None:
    write_app(tmp_path)
    error = run_worker(tmp_path, *arguments, status=2)
    assert f"Invalid value for '{arguments[-2][:2]}" in error
    assert f"{arguments[-1]} is not in the range x>=1" in error


@pytest.mark.parametrize(
    ("patch", "library", "pool"),
    [
        ("import gevent.monkey; gevent.monkey.patch_all()", "gevent", "gevent"),
        ("import gevent.monkey; gevent.monkey.patch_all()", "gevent", "prefork"),
        ("import eventlet; eventlet.monkey_patch()", "eventlet", "eventlet"),
    ],
)
def test_an_application_that_patches_the_supervisor_is_refused(
    tmp_path: Path, patch: str, library: str, pool: str
) -> None:
    write_app(tmp_path, "import warnings; warnings.simplefilter('ignore')", patch)
    line = run_worker(tmp_path, "-P", pool).splitlines()[-1]
    assert f"patched the supervisor's process by {library}" in line
    assert f"--pool {library}" in line


def test_greenlets_with_an_application_that_was_imported_first_are_refused(tmp_path: Path) -> None:
    write_app(tmp_path)
    (tmp_path / "main.py").write_text(
        "from proj import app\nfrom umbel.worker.supervisor import Worker\n"
        "try:\n    Worker(app, pool='gevent', hostname='x').run()\n"
        "except Exception as error:\n    raise SystemExit(str(error))\n"
    )
    line = one_line(run_worker(tmp_path, program=("main.py",)))
    assert "gevent must patch before the application is imported, but it was imported first" in line
    assert "umbel -A MODULE worker --pool gevent" in line


def test_a_pool_whose_library_is_missing_names_the_extra(tmp_path: Path) -> None:
    write_app(tmp_path)
    hide = "import importlib.util as util; found = util.find_spec\n"
    hide += "util.find_spec = lambda name, *rest: None if name == 'gevent' else found(name, *rest)\n"
    (tmp_path / "proj.py").write_text(hide + (tmp_path / "proj.py").read_text())
    line = one_line(run_worker(tmp_path, "-P", "gevent"))
    assert "gevent is not installed" in line
    assert "pip install 'umbel[gevent]'" in line


def test_steps_that_require_each_other_are_one_line(tmp_path: Path) -> None:
    write_app(tmp_path)
    steps = """
        from umbel.bootsteps import StartStopStep

        class Egg(StartStopStep):
            requires = ("proj:Hen",)

        class Hen(StartStopStep):
            requires = ("proj:Egg",)

        app.steps["worker"] |= {Egg, Hen}
    """
    with (tmp_path / "proj.py").open("a") as file:
        file.write(textwrap.dedent(steps))
    line = one_line(run_worker(tmp_path))
    assert "steps of the worker require each other in a circle" in line
    assert "Hen" in line and "Egg" in line


def test_the_documented_own_pool_runs_tasks(tmp_path: Path) -> None:
    write_app(tmp_path)
    (tmp_path / "sessions.py").write_text((EXAMPLES / "own_pool/sessions.py").read_text())
    with (tmp_path / "log").open("wb") as log:
        worker = subprocess.Popen(
            [sys.executable, "-m", "umbel", "-A", "proj", "worker", "-P", "sessions:SessionLanes", "-c", "2"],
            cwd=tmp_path,
            stderr=log,
        )
    try:
        wait_for(lambda: "ready" in (tmp_path / "log").read_text(), 20)
        call = [sys.executable, "-m", "umbel", "-A", "proj", "call", "proj.rows", "--wait"]
        done = subprocess.run(call, cwd=tmp_path, capture_output=True, text=True, timeout=30)
        assert done.stdout.strip() == "1", done.stderr
        worker.terminate()
        assert worker.wait(10) == 0
        assert "killed" not in (tmp_path / "log").read_text()
    finally:
        worker.kill()
        worker.wait()
