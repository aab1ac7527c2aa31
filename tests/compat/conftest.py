"""Fresh interpreters, in which `celery` may or may not mean Umbel; and a stand-in for an installed Celery."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

Run = Callable[..., str]
PROJECT = Path(__file__).parents[1] / "data" / "celery_project"


@pytest.fixture
def python(tmp_path: Path) -> Run:
    """Run a program in a new interpreter and give its standard output; with `fails`, its standard error."""

    def run(program: str, *, path: Path | None = None, fails: bool = False, arguments: tuple[str, ...] = ()) -> str:
        places = [str(path)] if path else []
        places += filter(None, [os.environ.get("PYTHONPATH")])
        environment = {**os.environ, "PYTHONPATH": os.pathsep.join(places)}
        environment.pop("UMBEL_AS_CELERY", None)
        command = [sys.executable, *(arguments or ("-c", program))]
        done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=60)
        assert (done.returncode != 0) == fails, done.stdout + done.stderr
        return done.stderr if fails else done.stdout

    return run


@pytest.fixture
def real_celery(tmp_path: Path) -> Path:
    """A directory with packages called celery and kombu, as an environment has them in which Celery is installed."""
    site = tmp_path / "site"
    for name in ("celery", "celery/app", "kombu"):
        (site / name).mkdir(parents=True)
        (site / name / "__init__.py").write_text("REAL = True\n")
    (site / "celery" / "beat.py").write_text("REAL = True\n")
    (site / "kombu" / "pidbox.py").write_text("REAL = True\n")
    return site
