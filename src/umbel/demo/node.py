"""The worker of the demo: a process of its own that ends with it."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil

from umbel.errors import TimeoutError, UmbelError

_PATIENCE = 5.0
_READY = "umbel.worker: ready"


class WorkerDied(UmbelError):
    """The demo's worker ended before the demo did."""


class WorkerNode:
    """``umbel worker`` on one queue, in a process group of its own so that ctrl-C reaches the demo alone. Its files are
    where its log is."""

    def __init__(self, broker: str, backend: str, queue: str, processes: int, log: Path) -> None:
        self._log = log
        options = ["--app", "umbel.demo.tasks", "--broker", broker, "--result-backend", backend]
        worker = ["worker", "--quiet", "--queues", queue, "--concurrency", str(processes), "--logfile", str(log)]
        with log.open("ab") as output:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "umbel", *options, *worker],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                env=os.environ | {"UMBEL_RUNTIME_DIR": str(log.parent)},
                start_new_session=True,
            )

    @property
    def pid(self) -> int:
        return self._process.pid

    def wait_ready(self, timeout: float) -> None:
        """Return when it takes tasks. Raises WorkerDied, TimeoutError after ``timeout`` seconds."""
        deadline = time.monotonic() + timeout
        while _READY not in self._log.read_text(errors="replace"):
            self.check()
            if time.monotonic() > deadline:
                raise TimeoutError(f"the worker is not ready within {timeout:g} s; its log ends with:\n{self._tail()}")
            time.sleep(0.02)

    def check(self) -> None:
        """Raise WorkerDied, with the end of its log, when it does not run any more."""
        status = self._process.poll()
        if status is not None:
            raise WorkerDied(f"the worker ended with status {status}; its log ends with:\n{self._tail()}")

    def _tail(self) -> str:
        return "\n".join(self._log.read_text(errors="replace").splitlines()[-20:])

    def stop(self) -> bool:
        """End it with all its processes; whether it went by itself and without complaint."""
        family = self._family()
        for number in (signal.SIGTERM, signal.SIGQUIT, signal.SIGKILL):
            with contextlib.suppress(ProcessLookupError):
                self._process.send_signal(number)
            try:
                status = self._process.wait(_PATIENCE)
            except subprocess.TimeoutExpired:
                continue
            break
        else:
            status = -1
        _, left = psutil.wait_procs(family, timeout=1.0)
        for process in left:
            with contextlib.suppress(psutil.NoSuchProcess):
                process.kill()
        psutil.wait_procs(left, timeout=1.0)
        return status == 0 and not left

    def _family(self) -> list[psutil.Process]:
        with contextlib.suppress(psutil.NoSuchProcess):
            return psutil.Process(self._process.pid).children(recursive=True)
        return []


def processors() -> int:
    """Processors that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
