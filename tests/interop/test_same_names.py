"""Programs that use names of Celery's modules write the same on Umbel and on a real Celery."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from interop.rig import celery_python

PROGRAMS = Path(__file__).parents[1] / "data" / "same_in_celery"
ON_UMBEL = "import runpy, sys, umbel.compat.auto; runpy.run_path(sys.argv[1], run_name='__main__')"


def output(*command: str) -> list[str]:
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()


@pytest.mark.parametrize("program", sorted(PROGRAMS.glob("*.py")), ids=lambda path: path.stem)
def test_the_output_is_the_same(program: Path) -> None:
    expected = output(celery_python(), str(program))
    assert len(expected) > 5
    assert output(sys.executable, "-c", ON_UMBEL, str(program)) == expected
