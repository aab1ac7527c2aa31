"""The types of tasks, as pyright sees them in tests/typing."""

from __future__ import annotations

import pathlib
import shutil
import subprocess
import sys

import pytest

ROOT = pathlib.Path(__file__).parents[2]
PYRIGHT = shutil.which("pyright", path=str(pathlib.Path(sys.executable).parent)) or shutil.which("pyright")


@pytest.mark.skipif(PYRIGHT is None, reason="pyright is not installed")
@pytest.mark.parametrize("file", sorted((ROOT / "tests" / "typing").glob("*.py")), ids=lambda path: path.name)
def test_usages_check_or_fail_as_marked(file: pathlib.Path) -> None:
    assert PYRIGHT is not None
    found = subprocess.run(
        [PYRIGHT, "--pythonpath", sys.executable, str(file)], capture_output=True, text=True, cwd=ROOT, timeout=110
    )
    assert found.returncode == 0, found.stdout
