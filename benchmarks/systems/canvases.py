"""Groups, chords and chains as a client makes them: the same calls for Umbel and for Celery."""

from __future__ import annotations

import resource
import time
from typing import Any

WAIT = 170.0
"""Seconds to wait for a canvas before the run is given up."""


class Canvases:
    """Requests of a driver: `app` is the system's application, `home` the module with `chain`, `chord` and `group`.

    The application has the tasks `noop` and `total`, which takes a list.
    """

    def __init__(self, app: Any, home: Any, prefix: str) -> None:
        self._noop = app.tasks[f"{prefix}.noop"]
        self._total = app.tasks[f"{prefix}.total"]
        self._home = home

    def send_group(self, count: int) -> float:
        """Seconds until the broker has a group of so many; making its signatures is not counted."""
        made = self._group(count)
        start = time.perf_counter()
        made.apply_async()
        return time.perf_counter() - start

    def singles(self, count: int) -> float:
        """Seconds until the results of so many single tasks, sent together, are here."""
        made = self._group(count)
        start = time.perf_counter()
        made.apply_async().get(timeout=WAIT)
        return time.perf_counter() - start

    def chord(self, count: int) -> float:
        """Seconds until the result of a chord of so many is here."""
        made = self._home.chord(self._group(count), self._total.s())
        return self._run(made, count)

    def chain(self, links: int) -> float:
        """Seconds until the result of a chain of so many is here."""
        return self._run(self._home.chain([self._noop.si() for _ in range(links)]), 1)

    def nested(self, depth: int, width: int) -> float:
        """Seconds until the result of chords in each other is here: each has the next one among its members."""
        made = self._noop.si()
        for _ in range(depth):
            made = self._home.chord([made, *(self._noop.si() for _ in range(width - 1))], self._total.s())
        return self._run(made, depth * (width - 1) + 1)

    def group(self, count: int) -> float:
        """Seconds until a group of so many is sent and its results are here."""
        return self._run(self._group(count), [1] * count)

    def peak(self) -> float:
        """The most MiB of memory that this process has had."""
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024

    def _group(self, count: int) -> Any:
        return self._home.group([self._noop.s() for _ in range(count)])

    def _run(self, canvas: Any, expected: object) -> float:
        start = time.perf_counter()
        found = canvas.apply_async().get(timeout=WAIT)
        seconds = time.perf_counter() - start
        if found != expected:
            raise AssertionError(f"the canvas gave {str(found)[:100]}, not {str(expected)[:100]}")
        return seconds
