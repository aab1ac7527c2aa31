"""Both sides of the interoperation tests: workers and clients of Umbel and of a real Celery, on one broker."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import select
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import services
from workers import wait_for

HERE = Path(__file__).parent
ROOT = HERE.parents[1]
PINS = HERE / "celery-pins.txt"
TIMEOUT = 20


def celery_python() -> str:
    """A Python that has Celery: ``UMBEL_CELERY_PYTHON``, or a virtual environment that is made here once.

    Skips the calling test when it cannot be made, or fails it when ``UMBEL_REQUIRE_SERVICES=1``.
    """
    if given := os.environ.get("UMBEL_CELERY_PYTHON"):
        return given
    home = ROOT / ".venvs" / "interop"
    home.parent.mkdir(exist_ok=True)
    wanted = PINS.read_text() + (ROOT / "benchmarks" / "pins" / "celery.txt").read_text()
    stamp = home / "installed-pins.txt"
    with (home.parent / "interop.lock").open("a") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not (stamp.exists() and stamp.read_text() == wanted):
            pip = [str(home / "bin" / "python"), "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
            for command in ([sys.executable, "-m", "venv", str(home)], [*pip, "-r", str(PINS)]):
                done = subprocess.run(command, capture_output=True, text=True)
                if done.returncode:
                    services.unavailable(
                        f"a real Celery is needed, and {' '.join(command)} failed: {done.stderr.strip()[-300:]}; "
                        "UMBEL_CELERY_PYTHON may name a Python that has it"
                    )
            stamp.write_text(wanted)
    return str(home / "bin" / "python")


class Process:
    """A process in a group of its own, with a log."""

    def __init__(self, command: list[str], environment: dict[str, str], log: Path, **pipes: Any) -> None:
        self.log = log
        with log.open("ab") as output:
            self.popen: subprocess.Popen[bytes] = subprocess.Popen(
                command,
                cwd=HERE,
                env={**os.environ, **environment},
                **({"stdin": subprocess.DEVNULL, "stdout": output} | pipes),
                stderr=output,
                start_new_session=True,
            )

    def wait_ready(self, mark: str) -> None:
        def ready() -> bool:
            text = self.log.read_text(errors="replace")
            assert self.popen.poll() is None, text[-3000:]
            return mark in text

        wait_for(ready, TIMEOUT, f"{mark!r} in {self.log}")

    def stop(self) -> None:
        if self.popen.poll() is None:
            self.popen.send_signal(signal.SIGTERM)
            with contextlib.suppress(subprocess.TimeoutExpired):
                self.popen.wait(10)
        self.kill()

    def kill(self) -> None:
        """SIGKILL to the whole group."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.popen.pid, signal.SIGKILL)
        self.popen.wait(10)


class CeleryClient(Process):
    """A real Celery client, asked over pipes."""

    def __init__(self, python: str, environment: dict[str, str], log: Path) -> None:
        command = [python, "-m", "shared.celery_client"]
        super().__init__(command, environment, log, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        assert self._answer() == "ready"

    def _answer(self) -> Any:
        assert self.popen.stdout is not None
        readable, _, _ = select.select([self.popen.stdout], [], [], 60)
        line = self.popen.stdout.readline() if readable else b""
        assert line, f"Celery's client says nothing:\n{self.log.read_text()[-3000:]}"
        return json.loads(line)

    def ask(self, do: str, **request: Any) -> Any:
        assert self.popen.stdin is not None
        self.popen.stdin.write(json.dumps({"do": do, **request}).encode() + b"\n")
        self.popen.stdin.flush()
        answer = self._answer()
        assert "error" not in answer, answer
        return answer

    def delay(self, task: str, *args: Any, **kwargs: Any) -> str:
        return self.ask("send", task=task, args=args, kwargs=kwargs, options={}, delay=True)["id"]

    def send(self, task: str, args: Any = (), kwargs: Any = None, **options: Any) -> str:
        return self.ask("send", task=task, args=list(args), kwargs=kwargs or {}, options=options, delay=False)["id"]

    def get(self, task_id: str, timeout: float = TIMEOUT) -> dict[str, Any]:
        return self.ask("get", task_id=task_id, timeout=timeout)

    def value(self, task_id: str) -> Any:
        """The result of a task that succeeds."""
        answer = self.get(task_id)
        assert answer["state"] == "SUCCESS", answer
        return answer["value"]


class Rig:
    """A broker, a result store, and who works on them."""

    def __init__(self, broker: str, backend: str, directory: Path, python: str) -> None:
        self.broker = broker
        self.directory = directory
        self.python = python
        self.ledger = directory / "ledger"
        self.environment = {
            "INTEROP_BROKER": broker,
            "INTEROP_BACKEND": backend,
            "LEDGER_FILE": str(self.ledger),
            "PYTHONPATH": os.pathsep.join([str(HERE), *filter(None, [os.environ.get("PYTHONPATH")])]),
            "PYTHONUNBUFFERED": "1",
        }
        self._processes: list[Process] = []
        self._clients: list[Any] = []

    def _log(self, name: str) -> Path:
        return self.directory / f"{name}-{len(self._processes)}.log"

    def celery_worker(self, *arguments: str, **environment: str) -> Process:
        """A real Celery worker that runs one task at a time."""
        command = [self.python, "-m", "celery", "-A", "shared.for_celery", "worker", "--loglevel", "INFO"]
        node = f"celery{len(self._processes)}@%h"
        options = ["-n", node, "--pool", "solo", "--without-gossip", "--without-mingle", *arguments]
        settings = self.environment | {"C_FORCE_ROOT": "1"} | environment
        made = Process([*command, *options], settings, self._log("celery"))
        self._processes.append(made)
        made.wait_ready(" ready.")
        return made

    def umbel_worker(self, *arguments: str, **environment: str) -> Process:
        command = [sys.executable, "-m", "umbel", "-A", "shared.for_umbel", "worker", "--quiet", "-c", "1"]
        node = f"umbel{len(self._processes)}@%h"
        made = Process([*command, "-n", node, *arguments], self.environment | environment, self._log("umbel"))
        self._processes.append(made)
        made.wait_ready("umbel.worker: ready")
        return made

    def celery_client(self, **environment: str) -> CeleryClient:
        made = CeleryClient(self.python, self.environment | environment, self._log("client"))
        self._processes.append(made)
        return made

    def umbel_client(self, **settings: Any) -> Any:
        """An Umbel application with the shared tasks, in this process."""
        from shared.tasks import define

        from umbel import Umbel

        places = {"broker": self.environment["INTEROP_BROKER"], "backend": self.environment["INTEROP_BACKEND"]}
        made = define(Umbel("client", **places, mixed_fleet=True, set_as_current=False, **settings), "client")
        self._clients.append(made)
        return made

    def runs(self) -> list[tuple[str, str]]:
        """(kind of worker, what it noted), of every run, in order."""
        if not self.ledger.exists():
            return []
        lines = self.ledger.read_text().splitlines()
        return [(kind, rest) for kind, _, rest in (line.partition(" ") for line in lines)]

    def runs_of(self, task_id: str) -> Counter[str]:
        """How often each kind of worker ran a task."""
        return Counter(kind for kind, noted in self.runs() if noted == task_id)

    def close(self) -> None:
        for client in self._clients:
            client.close()
        for process in self._processes:
            process.stop()


@contextlib.contextmanager
def rig(system: str, directory: Path, backend: str = "") -> Iterator[Rig]:
    """On ``redis``, or on ``rabbitmq`` with results in Redis; or with those of ``backend``."""
    python = celery_python()
    with ExitStack() as places:
        broker = places.enter_context(services.isolated(system))
        if not backend:
            backend = broker if system == "redis" else places.enter_context(services.isolated("redis"))
        # Celery reads amqp://host/name as the virtual host "name", as pika does.
        made = Rig(broker, backend, directory, python)
        sys.path.insert(0, str(HERE))
        try:
            yield made
        finally:
            sys.path.remove(str(HERE))
            made.close()
