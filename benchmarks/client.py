"""The client side of a run, a process in the measured system's own virtual environment.

`python -m benchmarks.client MODULE` reads one JSON request a line and answers each with one JSON line:
`{"do": "send_for", "seconds": 2}` → `{"value": [12345, 2.01]}`, or `{"error": "..."}`. Requests are the methods of
`systems.base.DriverBase` and what else its driver can do, and `done`, which asks the function that `watch` returned.
"""

from __future__ import annotations

import gc
import importlib
import json
import os
import sys
import time
import traceback
from collections.abc import Callable
from typing import Any

from benchmarks.systems.base import DriverBase


class Requests:
    """What the harness can ask of this process."""

    def __init__(self, driver: DriverBase) -> None:
        self.driver = driver
        self._done: Callable[[], int] = lambda: 0
        self._stamp: Callable[[], float] = lambda: 0.0

    def prepare(self) -> None:
        self.driver.prepare()

    def send_many(self, count: int, task: str = "noop") -> float:
        """Return the seconds it took."""
        start = time.perf_counter()
        self.driver.send_many(count, task)
        return time.perf_counter() - start

    def send_for(self, seconds: float) -> tuple[int, float]:
        return self.driver.send_for(seconds)

    def call_for(self, seconds: float) -> tuple[int, float]:
        return self.driver.call_for(seconds)

    def latencies(self, count: int, pause: float) -> list[float]:
        """Seconds from send to start, of `count` tasks sent one at a time, `pause` seconds apart."""
        samples: list[float] = []
        for _ in range(count):
            time.sleep(pause)
            samples.append(self.driver.latency())
        return samples

    def send_stamp(self) -> None:
        self._stamp = self.driver.send_stamp()

    def stamp(self) -> float:
        """When the task of `send_stamp` started, by `time.monotonic()`."""
        return self._stamp()

    def watch(self, expected: int) -> float:
        """Begin to watch `expected` tasks; return the seconds between two questions."""
        self._done = self.driver.watch(expected)
        return self.driver.poll_interval()

    def done(self) -> int:
        return self._done()

    def cleanup(self) -> None:
        self.driver.cleanup()


def main() -> None:
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    requests = Requests(importlib.import_module(sys.argv[1]).Driver())
    gc.collect()
    for line in sys.stdin:
        request: dict[str, Any] = json.loads(line)
        name = request.pop("do")
        method = getattr(requests, name, None) or getattr(requests.driver, name)
        try:
            answer = {"value": method(**request)}
        except Exception as error:
            traceback.print_exc()
            answer = {"error": f"{type(error).__name__}: {error}"}
        print(json.dumps(answer), file=answers, flush=True)
    answers.close()
    sys.stderr.flush()
    os._exit(0)


if __name__ == "__main__":
    main()
