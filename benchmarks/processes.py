"""Processes of a benchmark: started with a mark, measured as a tree, and ended for certain.

Everything the harness starts inherits `UMBEL_BENCH_MARK`. A reaper process holds a pipe to the harness; when the
harness ends, however it ends, the reaper kills every process that carries the mark and removes the scratch
directory. So nothing is left running after ctrl-C, an exception, or a `kill -9`.
"""

from __future__ import annotations

import json
import os
import secrets
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import psutil

ROOT = Path(__file__).resolve().parent.parent
SOURCES = (str(ROOT), str(ROOT / "src"))
"""Where processes find the benchmarks, and Umbel as it is in this tree."""
MARK = "UMBEL_BENCH_MARK"


class BenchmarkError(Exception):
    """A measurement that could not be made, and why."""


class Scope:
    """Owns all processes and files of one benchmark run."""

    def __init__(self) -> None:
        self.mark = secrets.token_hex(8)
        self.directory = Path(tempfile.mkdtemp(prefix="umbel-bench-"))
        self.directory.chmod(0o755)
        self._reaper = subprocess.Popen(
            [sys.executable, "-m", "benchmarks.reaper", self.mark, str(self.directory)],
            cwd=ROOT,
            stdin=subprocess.PIPE,
            start_new_session=True,
        )

    def __enter__(self) -> Scope:
        return self

    def __exit__(self, *_: object) -> None:
        assert self._reaper.stdin is not None
        self._reaper.stdin.close()
        self._reaper.wait(timeout=30)

    def environment(self, extra: Mapping[str, str] | None = None) -> dict[str, str]:
        """This process's variables, less what would configure a system or keep it from caching its bytecode."""
        unwanted = ("UMBEL_", "CELERY_", "PYTHONDONTWRITEBYTECODE", "PYTHONNODEBUGRANGES")
        kept = {name: value for name, value in os.environ.items() if not name.startswith(unwanted)}
        return {**kept, "PYTHONPATH": os.pathsep.join(SOURCES), MARK: self.mark, **(extra or {})}

    def spawn(
        self, argv: Sequence[str], log: str, environment: Mapping[str, str] | None = None, **options: Any
    ) -> subprocess.Popen[bytes]:
        """Start a process in a session of its own; its output goes to the file `log` of the scratch directory."""
        with (self.directory / log).open("ab") as output:
            settings = {"cwd": ROOT, "stdin": subprocess.DEVNULL, "stdout": output, **options}
            return subprocess.Popen(
                list(argv),
                env=self.environment(environment),
                stderr=output,
                start_new_session=True,
                **settings,
            )

    def log_tail(self, log: str, lines: int = 15) -> str:
        path = self.directory / log
        return "\n".join(path.read_text(errors="replace").splitlines()[-lines:]) if path.exists() else ""


def marked(variable: str, value: str) -> list[psutil.Process]:
    """All processes that were started with `variable=value` in their environment."""
    wanted = f"{variable}={value}".encode()
    found: list[psutil.Process] = []
    for pid in psutil.pids():
        with suppress(OSError, psutil.Error):
            if wanted in Path(f"/proc/{pid}/environ").read_bytes().split(b"\0"):
                found.append(psutil.Process(pid))
    return found


def end(processes: Sequence[psutil.Process], grace: float) -> None:
    """TERM, and after `grace` seconds KILL what is left."""
    for process in processes:
        with suppress(psutil.Error):
            process.terminate()
    _, alive = psutil.wait_procs(processes, timeout=grace)
    for process in alive:
        with suppress(psutil.Error):
            process.kill()
    psutil.wait_procs(alive, timeout=5)


class WorkerTree:
    """The processes of one system's worker, found by a mark of their own (so orphans and daemons count too)."""

    GRACE = 3.0
    VARIABLE = "UMBEL_BENCH_WORKER"

    def __init__(
        self, scope: Scope, commands: Sequence[Sequence[str]], environment: Mapping[str, str], log: str
    ) -> None:
        self.scope = scope
        self.log = log
        self.mark = secrets.token_hex(8)
        self.started = time.monotonic()
        marked_environment = {**environment, self.VARIABLE: self.mark}
        self.roots = [scope.spawn(command, log, marked_environment) for command in commands]
        self._processes: list[psutil.Process] = []

    def check(self) -> None:
        """Raise BenchmarkError if a root process has ended."""
        for root in self.roots:
            if root.poll() is not None:
                tail = self.scope.log_tail(self.log)
                raise BenchmarkError(f"the worker ended with {root.returncode}:\n{tail}")

    def find(self) -> list[psutil.Process]:
        """Look for the processes of the tree; slow (tens of milliseconds), since it reads all of /proc."""
        self._processes = marked(self.VARIABLE, self.mark)
        return self._processes

    def cpu_seconds(self) -> float:
        """User and system time, exited and reaped children included, of the processes last found."""
        total = 0.0
        for process in self._processes:
            with suppress(psutil.Error):
                times = process.cpu_times()
                total += times.user + times.system + times.children_user + times.children_system
        return total

    def pss_bytes(self) -> int:
        """Proportional set size of the processes last found: memory shared between them counts once."""
        total = 0
        for process in self._processes:
            with suppress(OSError):
                for line in Path(f"/proc/{process.pid}/smaps_rollup").read_text().splitlines():
                    if line.startswith("Pss:"):
                        total += int(line.split()[1]) * 1024
        return total

    def stop(self) -> None:
        for root in self.roots:
            with suppress(OSError):
                root.send_signal(signal.SIGTERM)
        deadline = time.monotonic() + self.GRACE
        for root in self.roots:
            with suppress(subprocess.TimeoutExpired):
                root.wait(timeout=max(0.0, deadline - time.monotonic()))
        end(self.find(), grace=0.2)
        for root in self.roots:
            root.wait(timeout=5)


class Client:
    """A `benchmarks.client` process, asked by JSON lines."""

    def __init__(self, scope: Scope, python: str, module: str, environment: Mapping[str, str], log: str) -> None:
        self.scope = scope
        self.log = log
        self.process = scope.spawn(
            [python, "-m", "benchmarks.client", module],
            log,
            environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )

    def ask(self, do: str, **arguments: Any) -> Any:
        """Send one request and wait for its answer; raises BenchmarkError with the client's own words."""
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        try:
            self.process.stdin.write(json.dumps({"do": do, **arguments}).encode() + b"\n")
            self.process.stdin.flush()
        except BrokenPipeError:
            pass
        line = self.process.stdout.readline()
        if not line:
            raise BenchmarkError(f"the client ended during {do}:\n{self.scope.log_tail(self.log)}")
        answer = json.loads(line)
        if "error" in answer:
            raise BenchmarkError(f"{do}: {answer['error']}")
        return answer["value"]

    def stop(self) -> None:
        self.process.kill()
        self.process.wait()
        for stream in (self.process.stdin, self.process.stdout):
            if stream is not None:
                with suppress(BrokenPipeError):
                    stream.close()


def remove_tree(directory: Path) -> None:
    shutil.rmtree(directory, ignore_errors=True)
