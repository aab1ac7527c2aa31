"""A pytest plugin: tests that measure time are not judged by a machine that stood still meanwhile.

A virtual machine loses its processors to others for a second now and then. A test marked ``timed(seconds)``, which
such a pause of ``seconds`` may break, is watched; when it fails and there was one, it is run again, with everything it
needs made anew, and a warning says so. A failure on a machine that ran on is a failure at once, and so is the last of
``ATTEMPTS``. Who runs real workers and servers is ``timed(1.0)`` without saying so (``conftest.py``).
"""

from __future__ import annotations

import os
import threading
import time
from collections import deque
from pathlib import Path

import pytest
from _pytest.runner import runtestprotocol

ATTEMPTS = 4
LONGEST = 90.0
"""Seconds that all attempts may take, reckoned from those that there were: pytest-timeout ends the process later."""

_PAUSE = 0.02
_STATISTICS = Path("/proc/stat")
_STEAL = 8
"""The column of /proc/stat with the time in which a processor was taken away."""
_WINDOW = 1.0


class Watch:
    """While it is entered, ``longest`` is the longest time in seconds for which the machine stood still: in which this
    process was not woken, or which one of the processors was robbed of within a second."""

    def __init__(self) -> None:
        self.longest = 0.0
        # Open all the time: tests count open files.
        self._statistics = os.open(_STATISTICS, os.O_RDONLY | os.O_CLOEXEC) if _STATISTICS.exists() else None
        self._awake = time.monotonic()
        self._thefts = deque([(self._awake, self._stolen())])
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="watch", daemon=True)

    def __enter__(self) -> Watch:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()
        if self._statistics is not None:
            os.close(self._statistics)

    def _run(self) -> None:
        ended = False
        while not ended:
            ended = self._stop.wait(_PAUSE)
            before, self._awake = self._awake, time.monotonic()
            self.longest = max(self.longest, self._awake - before - _PAUSE)
            if ended or self._awake - self._thefts[-1][0] > _WINDOW / 5:
                self.longest = max(self.longest, self._robbed())

    def _robbed(self) -> float:
        """Seconds that one of the processors was taken away for within the window that ends now."""
        thefts = self._thefts
        thefts.append((self._awake, self._stolen()))
        while len(thefts) > 2 and thefts[0][0] < self._awake - _WINDOW:
            thefts.popleft()
        return max((now - then for then, now in zip(thefts[0][1], thefts[-1][1], strict=False)), default=0.0)

    def _stolen(self) -> list[float]:
        """Seconds that each processor was taken away for since the machine was started."""
        if self._statistics is None:
            return []
        lines = os.pread(self._statistics, 1 << 16, 0).decode().splitlines()
        rows = [line.split() for line in lines if line.startswith("cpu") and not line.startswith("cpu ")]
        return [int(row[_STEAL]) / os.sysconf("SC_CLK_TCK") for row in rows]


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line(
        "markers", "timed(seconds): runs again when it fails and the machine stood still for so long meanwhile"
    )


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_protocol(item: pytest.Item, nextitem: pytest.Item | None) -> bool | None:
    marker = item.get_closest_marker("timed")
    if marker is None:
        return None
    (bearable,) = marker.args
    item.ihook.pytest_runtest_logstart(nodeid=item.nodeid, location=item.location)
    began = time.monotonic()
    for attempt in range(1, ATTEMPTS + 1):
        with Watch() as watch:
            reports = runtestprotocol(item, log=False, nextitem=nextitem)
        each = (time.monotonic() - began) / attempt
        if not any(report.failed for report in reports) or watch.longest < bearable:
            break
        if attempt == ATTEMPTS or each * (attempt + 1) > LONGEST:
            break
        item.warn(pytest.PytestWarning(f"repeated: it failed, and the machine stood still for {watch.longest:.2f} s"))
    for report in reports:
        item.ihook.pytest_runtest_logreport(report=report)
    item.ihook.pytest_runtest_logfinish(nodeid=item.nodeid, location=item.location)
    return True
