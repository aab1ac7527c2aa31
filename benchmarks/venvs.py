"""The peers' virtual environments, `.venvs/<peer>`, made on demand from the pins in `benchmarks/pins`."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from benchmarks.processes import ROOT, BenchmarkError

PINS = Path(__file__).parent / "pins"


def directory(environment: str) -> Path:
    """Where the environment's programs are; "umbel" is the environment this process runs in."""
    if environment == "umbel":
        return Path(sys.executable).parent
    return ROOT / ".venvs" / environment / "bin"


def ensure(environment: str) -> None:
    """Make the environment, or bring it to its pins; raises BenchmarkError with pip's words."""
    if environment == "umbel":
        return
    pins = PINS / f"{environment}.txt"
    home = ROOT / ".venvs" / environment
    stamp = home / "installed-pins.txt"
    if stamp.exists() and stamp.read_text() == pins.read_text():
        return
    print(f"Installing {environment} into .venvs/{environment} ...", flush=True)
    for command in (
        [sys.executable, "-m", "venv", str(home)],
        [str(home / "bin/pip"), "install", "--quiet", "--disable-pip-version-check", "-r", str(pins)],
    ):
        done = subprocess.run(command, capture_output=True, text=True)
        if done.returncode:
            raise BenchmarkError(f"{' '.join(command)} failed:\n{done.stderr.strip()[-2000:]}")
    stamp.write_text(pins.read_text())


def versions(environment: str) -> dict[str, str]:
    """Installed versions, by package."""
    python = str(directory(environment) / "python")
    code = (
        "import importlib.metadata as m, json;"
        "print(json.dumps({d.metadata['Name'].lower(): d.version for d in m.distributions()}))"
    )
    import json

    return json.loads(subprocess.run([python, "-c", code], capture_output=True, text=True, check=True).stdout)
