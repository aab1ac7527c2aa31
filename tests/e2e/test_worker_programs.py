"""``app.Worker`` and ``app.WorkController``: workers that programs of users start."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from umbel import Umbel
from umbel.errors import ConfigurationError, UmbelError
from workers import wait_for

TIMEOUT = 20

PROGRAM = """
import os, sys, threading
from umbel import Umbel

app = Umbel("program", broker=os.environ["PLACE"], backend=os.environ["PLACE"])

@app.task
def pid() -> int:
    return os.getpid()

if __name__ == "__main__":
    worker = app.Worker(**eval(sys.argv[1]))
    worker.start()
    sys.exit(worker.exitcode)
"""


@pytest.fixture
def place(tmp_path: Path) -> str:
    return f"sqlite:///{tmp_path / 'umbel.db'}"


@pytest.fixture
def app(place: str) -> Iterator[Umbel]:
    with Umbel("program", broker=place, backend=place) as made:

        @made.task(name="nap", track_started=True)
        def nap(seconds: float) -> int:
            threading.Event().wait(seconds)
            return os.getpid()

        yield made


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_program_is_a_worker_until_it_is_told_to_stop(
    app: Umbel, tmp_path: Path, place: str, number: signal.Signals
) -> None:
    (tmp_path / "run.py").write_text(PROGRAM)
    options = {"hostname": "own@%h", "concurrency": 2, "queues": ["mails"], "loglevel": "info"}
    options["pidfile"] = str(tmp_path / "pid")
    log = tmp_path / "log"
    with log.open("wb") as output:
        program = subprocess.Popen(
            [sys.executable, str(tmp_path / "run.py"), repr(options)],
            env=os.environ | {"PLACE": place},
            stderr=output,
            stdout=output,
        )
    try:
        wait_for(lambda: "umbel.worker: ready" in log.read_text(), TIMEOUT, "the worker is ready")
        assert (tmp_path / "pid").read_text() == f"{program.pid}\n"
        elsewhere = app.send_task("program.pid")
        assert app.send_task("program.pid", queue="mails").get(timeout=TIMEOUT) != program.pid
        assert not elsewhere.ready()
        program.send_signal(number)
        assert program.wait(TIMEOUT) == 0 and not (tmp_path / "pid").exists()
        assert "warm shutdown" in log.read_text()
    finally:
        program.kill()
        program.wait()


@pytest.mark.parametrize("pool", ["threads", "prefork"])
def test_a_program_starts_and_stops_one_in_a_thread(app: Umbel, pool: str) -> None:
    for name in ("Worker", "WorkController"):
        worker = getattr(app, name)(pool=pool, concurrency=2, time_limit=60, without_gossip=True)
        assert worker.concurrency == 2 and app.conf.task_time_limit == 60 and worker.app is app
        thread = threading.Thread(target=worker.start)
        thread.start()
        try:
            assert app.tasks["nap"].delay(0).get(timeout=TIMEOUT) != os.getpid()
        finally:
            worker.stop(exitcode=3)
            thread.join(TIMEOUT)
        assert not thread.is_alive() and worker.exitcode == 3
        with pytest.raises(UmbelError, match="was started before"):
            worker.start()
        worker.stop()


@pytest.mark.parametrize(("how", "state"), [("stop", "SUCCESS"), ("terminate", "STARTED")])
def test_stop_waits_for_tasks_that_run_and_terminate_gives_them_back(app: Umbel, how: str, state: str) -> None:
    worker = app.WorkController(pool="threads", concurrency=1)
    running = app.tasks["nap"].delay(1.0)
    thread = threading.Thread(target=worker.start)
    thread.start()
    try:
        wait_for(lambda: running.state == "STARTED", TIMEOUT, "it runs")
    finally:
        getattr(worker, how)()
        thread.join(TIMEOUT)
    assert not thread.is_alive() and running.state == state
    assert app.broker.size("celery").ready == (how == "terminate")


def test_one_that_is_stopped_before_it_starts_stops_when_it_does(app: Umbel) -> None:
    worker = app.WorkController(pool="threads", concurrency=1)
    worker.stop()
    worker.terminate()
    thread = threading.Thread(target=worker.start)
    thread.start()
    thread.join(TIMEOUT)
    assert not thread.is_alive() and worker.exitcode == 0


def test_what_cannot_be_is_said_when_it_is_made(app: Umbel) -> None:
    with pytest.raises(TypeError, match=r"unknown option of a worker: 'concurency'; did you mean 'concurrency'"):
        app.Worker(concurency=3)
    with pytest.raises(ConfigurationError, match="swimming"):
        app.WorkController(pool="swimming")
    with pytest.raises(ConfigurationError, match="at least 1"):
        app.WorkController(concurrency=0)
    with pytest.raises(ConfigurationError, match="no module has it as a global variable"):
        app.WorkController(pool="gevent")
    with pytest.raises(ModuleNotFoundError, match="nowhere"):
        app.WorkController(include="nowhere.tasks")


def test_options_of_boot_steps_are_theirs(app: Umbel) -> None:
    app.user_options["worker"].add(object())
    options = app.WorkController(pool="threads", queues="a, b", flavour="sweet").supervisor.options
    assert (options["flavour"], options["pool"], options["queues"]) == ("sweet", "threads", ["a", "b"])
