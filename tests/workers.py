"""Workers as the tests run them: real ``umbel worker`` processes, and the ledger that their tasks write."""

from __future__ import annotations

import contextlib
import importlib
import os
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Collection, Iterator, Mapping
from pathlib import Path
from types import ModuleType
from typing import NamedTuple, TypeVar

import psutil

from processes import still_running

T = TypeVar("T")
TESTS = Path(__file__).parent


def wait_for(condition: Callable[[], T], timeout: float = 10.0, what: str = "") -> T:
    """Poll until ``condition()`` is true and return it; AssertionError after ``timeout`` seconds."""
    deadline = time.monotonic() + timeout
    while not (value := condition()):
        if time.monotonic() > deadline:
            raise AssertionError(f"not within {timeout} s: {what or condition}; last was {value!r}")
        time.sleep(0.01)
    return value


class Entry(NamedTuple):
    """One line of the ledger; ``at`` is Unix time in seconds."""

    event: str
    id: str
    pid: int
    at: float


class Ledger:
    """What the tasks of ``apps.ledger`` did."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def entries(self) -> list[Entry]:
        """All lines, oldest first."""
        if not self.path.exists():
            return []
        whole = self.path.read_text().rpartition("\n")[0]
        words = (line.split() for line in whole.splitlines())
        return [Entry(event, task_id, int(pid), float(at)) for event, task_id, pid, at in words]

    def _ids(self, event: str) -> list[str]:
        return [entry.id for entry in self.entries() if entry.event == event]

    def begun(self) -> Counter[str]:
        return Counter(self._ids("begin"))

    def ended(self) -> Counter[str]:
        return Counter(self._ids("end"))

    def running(self) -> set[str]:
        """Ids that have begun more often than they have ended."""
        return set(self.begun() - self.ended())

    def in_doubt(self, pids: Collection[int], moment: float, unreported: float = 0.0) -> set[str]:
        """Ids that these processes had begun and, at ``moment``, not ended for more than ``unreported`` seconds."""
        entries = [entry for entry in self.entries() if entry.pid in pids]
        ended = {entry.id for entry in entries if entry.event == "end" and entry.at < moment - unreported}
        return {entry.id for entry in entries} - ended


class WorkerProcess:
    """One worker node in a process of its own. ``log`` is the file with all its output."""

    def __init__(self, environment: dict[str, str], log: Path, *arguments: str, app: str = "apps.ledger") -> None:
        self.log = log
        command = [sys.executable, "-m", "umbel", "-A", app, "worker", "--quiet", *arguments]
        with log.open("ab") as output:
            self.process = subprocess.Popen(
                command,
                cwd=TESTS,
                env=os.environ | environment,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                start_new_session=True,
            )

    def output(self) -> str:
        return self.log.read_text(errors="replace")

    def wait_ready(self, timeout: float = 20.0) -> WorkerProcess:
        def ready() -> bool:
            assert self.process.poll() is None, f"the worker exited:\n{self.output()[-4000:]}"
            return "umbel.worker: ready" in self.output()

        wait_for(ready, timeout, "worker ready")
        return self

    def tree(self) -> list[psutil.Process]:
        """Supervisor, nursery and executors."""
        with contextlib.suppress(psutil.NoSuchProcess):
            top = psutil.Process(self.process.pid)
            return [top, *top.children(recursive=True)]
        return []

    def executors(self) -> list[psutil.Process]:
        tree = self.tree()
        return [executor for nursery in _children(tree, self.process.pid) for executor in _children(tree, nursery.pid)]

    def executor_pids(self) -> set[int]:
        return {process.pid for process in self.executors()}

    def nursery(self) -> psutil.Process:
        return next(iter(_children(self.tree(), self.process.pid)))

    def send_signal(self, number: int) -> None:
        os.kill(self.process.pid, number)

    def stop(self, number: int = signal.SIGTERM, timeout: float = 20.0) -> int:
        """Ask it to stop and wait; returns the exit code."""
        if self.process.poll() is None:
            self.send_signal(number)
        return self.process.wait(timeout)

    def kill(self) -> None:
        """SIGKILL to every process of it at once."""
        tree = self.tree()
        for process in tree:
            with contextlib.suppress(psutil.NoSuchProcess):
                process.kill()
        still_running(tree)
        with contextlib.suppress(subprocess.TimeoutExpired):
            self.process.wait(5)


@contextlib.contextmanager
def imported(app: str, environment: Mapping[str, str]) -> Iterator[ModuleType]:
    """The application's module anew in this process, with the variables of its workers; closed at the end."""
    before = {name: os.environ.get(name) for name in environment}
    os.environ.update(environment)
    _forget_apps()
    try:
        module = importlib.import_module(app)
        try:
            yield module
        finally:
            module.app.close()
    finally:
        _forget_apps()
        for name, value in before.items():
            os.environ.pop(name, None) if value is None else os.environ.update({name: value})


def _forget_apps() -> None:
    for name in [name for name in sys.modules if name.startswith("apps.")]:
        del sys.modules[name]


def _children(processes: list[psutil.Process], pid: int) -> list[psutil.Process]:
    """Those of ``processes`` that are there still, and whose parent is ``pid``."""
    found: list[psutil.Process] = []
    for process in processes:
        with contextlib.suppress(psutil.NoSuchProcess):
            if process.ppid() == pid:
                found.append(process)
    return found


class Fleet:
    """The workers of one test; all are gone when it ends."""

    def __init__(self, directory: Path, broker: str, backend: str, **environment: str) -> None:
        """``environment``: variables for the workers and for whoever sends them tasks."""
        self.directory = directory
        self.ledger = Ledger(directory / "ledger")
        self.environment = {
            "LEDGER_BROKER": broker,
            "LEDGER_BACKEND": backend,
            "LEDGER_FILE": str(self.ledger.path),
            "PYTHONUNBUFFERED": "1",
            **environment,
        }
        self.workers: list[WorkerProcess] = []
        self.app = "apps.ledger"
        """The module of the application that workers run."""

    def start(
        self,
        *arguments: str,
        environment: dict[str, str] | None = None,
        ready: bool = True,
        app: str = "",
    ) -> WorkerProcess:
        log = self.directory / f"worker-{len(self.workers)}.log"
        worker = WorkerProcess(self.environment | (environment or {}), log, *arguments, app=app or self.app)
        self.workers.append(worker)
        return worker.wait_ready() if ready else worker

    def close(self) -> None:
        for worker in self.workers:
            worker.kill()


@contextlib.contextmanager
def fleet(directory: Path, broker: str, backend: str, **environment: str) -> Iterator[Fleet]:
    made = Fleet(directory, broker, backend, **environment)
    try:
        yield made
    finally:
        made.close()
