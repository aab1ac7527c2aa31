"""The short form of the soak (`make soak`): a worker does not grow, with and without replacement of executors."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
FORMS = {
    "prefork": ("-c", "2"),
    "replacement": ("-c", "2", "--max-tasks-per-child", "500"),
    "asyncio": ("-P", "asyncio", "-c", "20"),
    "threads": ("-P", "threads", "-c", "8"),
}


@pytest.mark.alone
@pytest.mark.parametrize("form", FORMS)
def test_memory_and_open_files_are_flat(fresh_url: Callable[[str], str], form: str) -> None:
    done = subprocess.run(
        [
            sys.executable,
            "-m",
            "benchmarks.soak",
            "--tasks",
            "60000",
            "--broker",
            fresh_url("redis"),
            "--",
            *FORMS[form],
        ],
        cwd=ROOT,
        env={name: value for name, value in os.environ.items() if not name.startswith("UMBEL_")},
        capture_output=True,
        text=True,
        timeout=300,
    )
    print(done.stdout)
    assert done.returncode == 0, done.stdout + done.stderr[-3000:]
