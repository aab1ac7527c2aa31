"""Whether processes run still. One that has ended and waits to be reaped does not: where the process that reaps orphans
takes its time, or never does it, nobody here waits for that."""

from __future__ import annotations

import time
from collections.abc import Iterable

import psutil


def runs(process: psutil.Process | int) -> bool:
    """Whether this process, or the one with this pid, has not ended."""
    try:
        found = psutil.Process(process) if isinstance(process, int) else process
        return found.is_running() and found.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def still_running(processes: Iterable[psutil.Process], timeout: float = 5.0) -> list[psutil.Process]:
    """Wait up to ``timeout`` seconds for all to end; those that have not."""
    deadline = time.monotonic() + timeout
    left = [process for process in processes if runs(process)]
    while left and time.monotonic() < deadline:
        time.sleep(0.005)
        left = [process for process in left if runs(process)]
    return left
