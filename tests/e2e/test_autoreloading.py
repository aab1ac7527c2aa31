"""A worker takes up changed code while it works: nothing is lost, what runs ends on the code with which it began."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from processes import still_running
from umbel import Umbel
from umbel.message import new_id
from workers import TESTS, Fleet, WorkerProcess, fleet, wait_for

TIMEOUT = 40

APP = """\
from apps.ledger import app
app.conf.imports = ["proj.tasks"]
"""
TASKS = """\
import os, time
from apps.ledger import app, write

@app.task(bind=True, name="value")
def value(self, seconds=0.0, go=None):
    write("begin", self.request.id)
    time.sleep(seconds)
    while go and not os.path.exists(go):
        time.sleep(0.02)
    write("end", self.request.id)
    return {value!r}
"""


@pytest.fixture(params=["redis"])
def system(request: pytest.FixtureRequest) -> str:
    return request.param


class Project:
    """The package ``proj`` with its tasks in a file that changes, and the workers that run them."""

    def __init__(self, directory: Path, workers: Fleet, client: Umbel) -> None:
        self.directory = directory
        self.workers = workers
        self.client = client
        (directory / "proj").mkdir()
        self.write("__init__.py", "")
        self.write("app.py", APP)
        self.returns("first")

    def write(self, name: str, source: str) -> None:
        (self.directory / "proj" / name).write_text(source)

    def returns(self, value: str, more: str = "") -> None:
        self.write("tasks.py", TASKS.format(value=value) + more)

    def start(self, *arguments: str, ready: bool = True) -> WorkerProcess:
        """``ready``: wait until it works; one that is not may still import code that is being changed."""
        worker = self.workers.start("--reload", *arguments, app="proj.app", ready=ready)
        if ready:
            self.value()
        return worker

    def send(self, seconds: float = 0.0, go: Path | None = None) -> Any:
        """It takes ``seconds``, or until the file ``go`` is there."""
        return self.client.send_task("value", (seconds, str(go) if go else None))

    def value(self) -> str:
        return self.send().get(timeout=TIMEOUT)

    def wait_for_value(self, value: str) -> None:
        """The generation before may still be the one that gets a task, for a moment."""
        wait_for(lambda: self.value() == value, TIMEOUT)

    def reload(self, worker: WorkerProcess, value: str, more: str = "") -> None:
        """Change the code, and wait until it is what runs."""
        before = reloads(worker)
        self.returns(value, more)
        wait_for(lambda: reloads(worker) > before, TIMEOUT, f"reloaded:\n{worker.output()[-3000:]}")


@pytest.fixture
def project(urls: tuple[str, str], tmp_path: Path) -> Iterator[Project]:
    path = os.pathsep.join([str(tmp_path), str(TESTS), os.environ.get("PYTHONPATH", "")])
    with (
        fleet(tmp_path, *urls, PYTHONPATH=path) as workers,
        Umbel("client", broker=urls[0], backend=urls[1], set_as_current=False) as client,
    ):
        yield Project(tmp_path, workers, client)


def reloads(worker: WorkerProcess) -> int:
    return worker.output().count("umbel.reload: reloaded")


def generations(worker: WorkerProcess) -> list[psutil.Process]:
    """The supervisors."""
    return psutil.Process(worker.process.pid).children()


def wait_for_one_generation(worker: WorkerProcess) -> None:
    wait_for(lambda: len(generations(worker)) == 1, TIMEOUT, "the old generations have gone")


POOLS = [
    pytest.param(("-c", "2"), id="prefork"),
    pytest.param(("--pool", "threads", "-c", "4"), id="threads"),
    pytest.param(("--pool", "asyncio", "-c", "4"), id="asyncio"),
    pytest.param(("--pool", "gevent", "-c", "4"), id="gevent"),
    pytest.param(("--pool", "eventlet", "-c", "4"), id="eventlet"),
    pytest.param(
        (
            "--pool",
            "solo",
        ),
        id="solo",
    ),
]


@pytest.mark.parametrize("pool", POOLS)
def test_changed_and_new_tasks_are_run_and_running_ones_end_on_the_old_code(
    project: Project, pool: tuple[str, ...], tmp_path: Path
) -> None:
    worker = project.start(*pool)
    ledger = project.workers.ledger
    running = project.send(go=tmp_path / "go")
    wait_for(lambda: running.id in ledger.begun(), TIMEOUT)
    project.reload(worker, "second", '\n@app.task(name="new")\ndef new():\n    return "newcomer"\n')
    project.wait_for_value("second")
    assert project.client.send_task("new").get(timeout=TIMEOUT) == "newcomer"
    assert running.id not in ledger.ended()
    (tmp_path / "go").touch()
    assert running.get(timeout=TIMEOUT) == "first"
    wait_for_one_generation(worker)
    assert set(ledger.begun().values()) == {1}
    assert worker.stop() == 0


@pytest.mark.parametrize("pool", POOLS[:4])
def test_code_that_cannot_be_run_is_shown_once_and_the_old_goes_on(project: Project, pool: tuple[str, ...]) -> None:
    worker = project.start(*pool)
    project.write("tasks.py", "def broken(:\n")
    wait_for(lambda: "the new code cannot be run" in worker.output(), TIMEOUT)
    assert project.value() == "first"
    text = worker.output()
    assert text.count("SyntaxError") == 1 and "proj/tasks.py" in text and "def broken(:" in text
    assert "click" not in text
    project.write("tasks.py", "import a_module_that_is_not_there\n")
    wait_for(lambda: worker.output().count("the new code cannot be run") == 2, TIMEOUT)
    assert "ModuleNotFoundError: No module named 'a_module_that_is_not_there'" in worker.output()
    assert project.value() == "first"
    project.reload(worker, "repaired")
    project.wait_for_value("repaired")
    assert worker.stop() == 0


@pytest.mark.timeout(300)
@pytest.mark.parametrize("pool", POOLS[:4])
def test_reloads_under_load_lose_nothing_and_leave_nothing_behind(project: Project, pool: tuple[str, ...]) -> None:
    worker = project.start(*pool)
    wait_for_one_generation(worker)
    top = psutil.Process(worker.process.pid)
    ids: set[str] = set()
    count = 20 if "--pool" not in pool else 6
    for number in range(count):
        ids |= {project.send(0.02).id for _ in range(30)}
        project.reload(worker, f"value {number}")
        if number == 2:
            wait_for_one_generation(worker)
            descriptors, processes = top.num_fds(), len(top.children(recursive=True))
    ledger = project.workers.ledger
    wait_for(lambda: ids <= set(ledger.ended()), TIMEOUT)
    assert set(ledger.begun().values()) == {1}
    project.wait_for_value(f"value {count - 1}")
    wait_for_one_generation(worker)
    wait_for(lambda: len(top.children(recursive=True)) == processes, TIMEOUT)
    assert top.num_fds() == descriptors
    everybody = worker.tree()
    assert worker.stop() == 0
    assert still_running(everybody) == []


def test_a_burst_of_changes_is_one_reload(project: Project) -> None:
    worker = project.start()
    for number in range(10):
        project.returns(f"value {number}")
        project.write("other.py", f"number = {number}")
    wait_for(lambda: reloads(worker), TIMEOUT)
    project.wait_for_value("value 9")
    assert reloads(worker) == 1


def test_other_files_are_not_code(project: Project) -> None:
    worker = project.start()
    project.write("notes.txt", "nothing")
    project.write(".#tasks.py", "an editor's")
    project.write("tasks.pyc", "")
    project.reload(worker, "second")
    assert worker.output().count("code has changed") == 1


def test_only_what_is_below_given_directories_is_watched(project: Project, tmp_path: Path) -> None:
    other = tmp_path / "elsewhere" / "deep"
    other.mkdir(parents=True)
    worker = project.start("--reload-dir", str(tmp_path / "elsewhere"))
    project.returns("second")
    (other / "any.py").write_text("x = 1")
    wait_for(lambda: reloads(worker) == 1, TIMEOUT)
    assert worker.output().count("code has changed") == 1
    assert "elsewhere/deep/any.py" in worker.output() and "proj/tasks.py" not in worker.output()
    project.wait_for_value("second")


def test_stopping_waits_for_all_generations_and_a_second_signal_for_none(project: Project, tmp_path: Path) -> None:
    worker = project.start("-c", "1")
    ledger = project.workers.ledger
    old = project.send(go=tmp_path / "go")
    wait_for(lambda: old.id in ledger.begun(), TIMEOUT)
    project.reload(worker, "second")
    worker.send_signal(signal.SIGTERM)
    wait_for(lambda: worker.output().count("warm shutdown") == 2, TIMEOUT)
    (tmp_path / "go").touch()
    assert worker.process.wait(TIMEOUT) == 0
    assert old.get(timeout=TIMEOUT) == "first"
    again = project.start("-c", "1")
    long = project.send(60)
    wait_for(lambda: long.id in ledger.begun(), TIMEOUT)
    project.reload(again, "third")
    again.send_signal(signal.SIGTERM)
    wait_for(lambda: len(generations(again)) == 1, TIMEOUT, "the newest one, which has nothing to do, has ended")
    again.send_signal(signal.SIGTERM)
    assert again.process.wait(TIMEOUT) == 0
    assert project.client.broker.size("celery").ready == 1


def test_the_worker_goes_with_its_reloader_and_the_reloader_with_its_worker(project: Project) -> None:
    worker = project.start("-c", "1")
    everybody = worker.tree()
    os.kill(worker.process.pid, signal.SIGKILL)
    assert still_running(everybody[1:], TIMEOUT) == []
    other = project.start("-c", "1")
    everybody = other.tree()
    generations(other)[0].kill()
    assert other.process.wait(TIMEOUT) == 128 + signal.SIGKILL
    assert still_running(everybody, TIMEOUT) == []


def test_health_and_stacks_are_those_of_the_newest(project: Project, tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    worker = project.start("-c", "1", "--health-port", f"127.0.0.1:{port}", "-n", new_id())
    ledger = project.workers.ledger
    old = project.send(go=tmp_path / "go")
    wait_for(lambda: old.id in ledger.begun(), TIMEOUT)
    first = generations(worker)[0].pid
    project.reload(worker, "second")

    def newest() -> dict[str, Any] | None:
        with (
            contextlib.suppress(OSError),
            urllib.request.urlopen(f"http://127.0.0.1:{port}/readyz", timeout=5) as answer,
        ):
            health = json.load(answer)
            return health if health["pid"] != first else None
        return None

    health = wait_for(newest, TIMEOUT)
    assert health["ready"] and first in {process.pid for process in generations(worker)}
    worker.send_signal(signal.SIGUSR1)
    wait_for(lambda: worker.output().count("stacks of the nursery follow") == 2, TIMEOUT)
    (tmp_path / "go").touch()
    assert old.get(timeout=TIMEOUT) == "first"
    assert worker.stop() == 0


def test_pid_file_detachment_and_purge_belong_to_the_whole(project: Project, tmp_path: Path) -> None:
    project.send()
    pidfile, log = tmp_path / "pid", tmp_path / "detached.log"
    started = project.start(
        "-c", "1", "--detach", "--pidfile", str(pidfile), "--logfile", str(log), "--purge", ready=False
    )
    assert started.process.wait(TIMEOUT) == 0
    wait_for(lambda: "umbel.worker: ready" in log.read_text(), TIMEOUT)
    reloader = psutil.Process(int(pidfile.read_text()))
    try:
        assert reloader.children()
        waiting = [project.send(0.3) for _ in range(10)]
        project.returns("second")
        wait_for(lambda: "umbel.reload: reloaded" in log.read_text(), TIMEOUT)
        assert {result.get(timeout=TIMEOUT) for result in waiting} <= {"first", "second"}
        project.wait_for_value("second")
        assert int(pidfile.read_text()) == reloader.pid
        everybody = [reloader, *reloader.children(recursive=True)]
    finally:
        reloader.terminate()
    assert still_running(everybody, TIMEOUT) == []
    assert not pidfile.exists()


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["--reload-dir", "no/such/directory"], "no/such/directory is not a directory"),
        (["--reload", "--pool", "nonsense"], "unknown pool 'nonsense'"),
    ],
)
def test_what_cannot_be_done_is_one_line(arguments: list[str], says: str, tmp_path: Path) -> None:
    worker = WorkerProcess({"LEDGER_BROKER": f"sqlite:///{tmp_path / 'never.db'}"}, tmp_path / "log", *arguments)
    assert worker.process.wait(20) == 1
    assert says in worker.output() and worker.output().count("\n") == 1


def test_without_watchfiles_the_extra_is_named(tmp_path: Path) -> None:
    hidden = tmp_path / "sitecustomize.py"
    hidden.write_text("import sys\nsys.modules['watchfiles'] = None\n")
    environment = {"PYTHONPATH": os.pathsep.join([str(tmp_path), os.environ.get("PYTHONPATH", "")])}
    worker = WorkerProcess(
        {"LEDGER_BROKER": f"sqlite:///{tmp_path / 'never.db'}", **environment}, tmp_path / "log", "--reload"
    )
    assert worker.process.wait(20) == 1
    assert "pip install 'umbel[reload]'" in worker.output()


def test_code_that_cannot_be_run_from_the_start_ends_the_command(project: Project) -> None:
    project.write("tasks.py", "def broken(:\n")
    worker = project.workers.start("--reload", app="proj.app", ready=False)
    assert worker.process.wait(TIMEOUT) == 1
    assert "SyntaxError" in worker.output()


def test_a_change_while_the_new_code_is_being_started_is_not_lost(project: Project) -> None:
    worker = project.start("-c", "1")
    project.returns("slow to import", "\ntime.sleep(8)\n")
    wait_for(lambda: len(generations(worker)) == 2, TIMEOUT)
    project.returns("third")
    project.wait_for_value("third")
    wait_for_one_generation(worker)
    assert reloads(worker) == 1


def test_a_change_before_the_first_code_was_ready_is_not_lost_either(project: Project) -> None:
    project.returns("slow to import", "\ntime.sleep(4)\n")
    worker = project.workers.start("--reload", app="proj.app", ready=False)
    wait_for(lambda: generations(worker), TIMEOUT)
    project.returns("second")
    project.wait_for_value("second")
    wait_for_one_generation(worker)
    assert worker.stop() == 0
