"""Waiting for conditions, threads that report their errors, and processes that can be spoken to and killed."""

from __future__ import annotations

import json
import os
import queue
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, Generic, TypeVar

T = TypeVar("T")

TESTS = Path(__file__).resolve().parents[1]


def timed(action: Callable[[], object]) -> float:
    """Seconds that ``action`` takes."""
    before = time.monotonic()
    action()
    return time.monotonic() - before


def assert_prompt(seconds: float, once: Callable[[], float], tries: int = 4) -> None:
    """Fail unless one of so many calls of ``once``, which returns seconds, returns less than ``seconds``.

    A busy machine delays this one or that; what is slow by itself is slow each time.
    """
    took: list[float] = []
    while not took or took[-1] >= seconds:
        assert len(took) < tries, f"never within {seconds} s, but after {took}"
        took.append(once())


class Running(Generic[T]):
    """A call in a thread of its own. ``result()`` waits for its value, or raises what it raised."""

    def __init__(self, action: Callable[[], T]) -> None:
        self._action = action
        self._value: list[T] = []
        self._error: BaseException | None = None
        self.ended = 0.0
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def _run(self) -> None:
        try:
            self._value.append(self._action())
        except BaseException as error:
            self._error = error
        self.ended = time.time()

    @property
    def done(self) -> bool:
        return not self._thread.is_alive()

    def result(self, timeout: float = 30.0) -> T:
        self._thread.join(timeout)
        assert self.done, f"{self._action} did not end within {timeout} s"
        if self._error is not None:
            raise self._error
        return self._value[0]


@contextmanager
def every(seconds: float, action: Callable[[], Any]) -> Iterator[None]:
    """Call ``action`` every so often, in a thread, while the block runs. What it raises, the block's end raises."""
    stop = threading.Event()

    def loop() -> None:
        while not stop.wait(seconds):
            action()

    running = Running(loop)
    try:
        yield
    finally:
        stop.set()
    running.result()


class Child:
    """A Python process running ``python -m MODULE JSON``, whose lines of output are JSON values."""

    def __init__(self, module: str, **arguments: Any) -> None:
        environment = {**os.environ, "PYTHONPATH": str(TESTS)}
        command = [sys.executable, "-m", module, json.dumps(arguments)]
        self._process = subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stdin=subprocess.PIPE)
        self._lines: queue.Queue[bytes] = queue.Queue()
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            self._lines.put(line)
        self._lines.put(b"")

    def next(self, timeout: float = 30.0) -> Any:
        """The next value it printed; None when it ended."""
        line = self._lines.get(timeout=timeout)
        return json.loads(line) if line else None

    def tell(self) -> None:
        """Set what ``end_with_parent`` gave it."""
        assert self._process.stdin is not None
        self._process.stdin.write(b"!")
        self._process.stdin.flush()

    def rest(self, timeout: float = 60.0) -> list[Any]:
        """All that it prints until it ends by itself."""
        values: list[Any] = []
        while (value := self.next(timeout)) is not None:
            values.append(value)
        assert self._process.wait(10) == 0
        return values

    def kill(self) -> None:
        """SIGKILL, and wait until it is gone. Idempotent."""
        self._process.kill()
        self._process.wait()
        self._reader.join()
        for stream in (self._process.stdin, self._process.stdout):
            if stream is not None:
                stream.close()


@contextmanager
def children(module: str, **given: Any) -> Iterator[Callable[..., Child]]:
    """A factory of children that run ``module`` with ``given`` and further arguments, all killed at the end."""
    with ExitStack() as started:

        def start(**arguments: Any) -> Child:
            child = Child(module, **given, **arguments)
            started.callback(child.kill)
            return child

        yield start


def end_with_parent() -> threading.Event:
    """In a :class:`Child`: exit when the process that started it is gone. The event is set when that one ``tell``s."""
    told = threading.Event()

    def watch() -> None:
        while os.read(0, 1):
            told.set()
        os._exit(3)

    threading.Thread(target=watch, daemon=True).start()
    return told
