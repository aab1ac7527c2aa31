"""What is left of a worker in the process that ran it, warm and cold: nothing."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import psutil
import pytest

from conformance.pool.pools import POOLS, PoolCase
from workers import TESTS, Fleet, wait_for

ONE_PROCESS = [pool for pool in POOLS if "two processes" not in pool.id]
SIGNALS = {"warm": signal.SIGTERM, "cold": signal.SIGQUIT}


def of_node(directory: str) -> set[int]:
    """Processes that were started with this directory in their environment."""
    found: set[int] = set()
    for process in psutil.process_iter():
        try:
            if process.environ().get("UMBEL_RUNTIME_DIR") == directory:
                found.add(process.pid)
        except psutil.Error:
            continue  # it has gone
    return found


@pytest.mark.parametrize("how", SIGNALS)
@pytest.mark.parametrize("pool", ONE_PROCESS, ids=lambda pool: pool.id)
def test_threads_files_processes_memory_and_sockets_are_gone(
    alone: tuple[Fleet, ModuleType], tmp_path: Path, pool: PoolCase, how: str
) -> None:
    workers, _ = alone
    run = str(tmp_path / "run")
    done = subprocess.run(
        [sys.executable, "-m", "apps.leaving", pool.id, str(pool.size), str(int(SIGNALS[how]))],
        cwd=TESTS,
        env=os.environ | workers.environment | {"UMBEL_RUNTIME_DIR": run},
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    found = json.loads(done.stdout.splitlines()[-1])
    assert found["code"] == 0
    assert found["after"] == found["before"]
    wait_for(lambda: not of_node(run), 5, "no process of the worker is left")
