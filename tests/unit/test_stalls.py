"""The plugin ``stalls``: who may fail once more, and who may not."""

from __future__ import annotations

import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import psutil

from stalls import ATTEMPTS, Watch
from workers import wait_for

TESTS = Path(__file__).parents[1]
SCRIPT = """
import sys
from stalls import Watch
with Watch() as watch:
    print("watching", flush=True)
    sys.stdin.readline()
print(watch.longest)
"""
TESTS_OF_THE_PLUGIN = """
import ctypes, pytest
runs = []

def stand_still():
    ctypes.PyDLL(None).usleep(500_000)  # with the interpreter's lock: no thread of this process runs

@pytest.fixture
def run(request):
    yield runs.append(request.node.name) or runs.count(request.node.name)
    print("ran", request.node.name)

@pytest.mark.timed(0.3)
def test_held_up_once(run):
    if run == 1:
        stand_still()
        assert False

@pytest.mark.timed(0.3)
def test_held_up_ever(run):
    stand_still()
    assert False

@pytest.mark.timed(0.3)
def test_held_up_and_right(run):
    stand_still()

@pytest.mark.timed(0.3)
def test_wrong(run):
    assert False

def test_not_marked(run):
    stand_still()
    assert False
"""


def test_a_process_that_was_stopped_knows_for_how_long() -> None:
    watching = subprocess.Popen(
        [sys.executable, "-c", SCRIPT], cwd=TESTS, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    with watching:
        assert watching.stdout and watching.stdout.readline() == "watching\n"
        process = psutil.Process(watching.pid)
        process.suspend()
        stopped = time.monotonic()
        wait_for(lambda: time.monotonic() - stopped > 0.5)
        process.resume()
        assert float(watching.communicate("\n")[0]) >= 0.4


def test_who_waits_without_being_held_up_stood_not_still() -> None:
    with Watch() as watch:
        slept = time.monotonic()
        wait_for(lambda: time.monotonic() - slept > 0.3)
    assert watch.longest < 0.3


def test_a_failure_counts_unless_the_machine_stood_still(tmp_path: Path) -> None:
    test = tmp_path / "test_timed.py"
    test.write_text(TESTS_OF_THE_PLUGIN)
    command = [sys.executable, "-m", "pytest", "-q", "-s", "-p", "stalls", "-p", "no:cacheprovider", "-c", "/dev/null"]
    ran = subprocess.run([*command, "--rootdir", str(tmp_path), str(test)], cwd=TESTS, capture_output=True, text=True)
    assert "3 failed, 2 passed, 4 warnings" in ran.stdout, ran.stdout + ran.stderr
    runs = Counter(line.split()[-1] for line in ran.stdout.splitlines() if "ran test_" in line)
    assert runs == {
        "test_held_up_once": 2,
        "test_held_up_ever": ATTEMPTS,
        "test_held_up_and_right": 1,
        "test_wrong": 1,
        "test_not_marked": 1,
    }
