"""Tasks of canvases; those of the ledger write down each execution."""

from __future__ import annotations

import os
import signal
import time
from typing import Any

from apps.ledger import app, supervisor_pid, write
from umbel import chord, group


@app.task
def plus(x: int, y: int) -> int:
    return x + y


@app.task
def total(numbers: list[int]) -> int:
    return sum(numbers)


@app.task
def same(value: Any) -> Any:
    return value


@app.task
def boom(*args: Any) -> None:
    raise ValueError("boom")


@app.task(bind=True)
def member(self: Any, value: int, seconds: float = 0.0) -> int:
    write("begin", self.request.id)
    time.sleep(seconds)
    write("end", self.request.id)
    return value


@app.task(bind=True)
def held(self: Any, value: int, go: str) -> int:
    """Ends once the file ``go`` is there."""
    write("begin", self.request.id)
    while not os.path.exists(go):
        time.sleep(0.01)
    write("end", self.request.id)
    return value


@app.task(bind=True)
def body(self: Any, values: list[int]) -> int:
    write("begin", self.request.id)
    write("end", self.request.id)
    return sum(values)


@app.task(bind=True)
def link(self: Any, value: int) -> int:
    write("begin", self.request.id)
    write("end", self.request.id)
    return value + 1


@app.task(bind=True)
def crash_once(self: Any, value: int, whole_worker: bool = False) -> int:
    """Kills its process, or its worker, when it is run the first time."""
    write("begin", self.request.id)
    if not self.request.redelivered:
        os.kill(supervisor_pid() if whole_worker else os.getpid(), signal.SIGKILL)
        time.sleep(60)
    write("end", self.request.id)
    return value


@app.task
def always_crashes(value: int) -> None:
    os.kill(os.getpid(), signal.SIGKILL)


@app.task(bind=True)
def fan_out(self: Any, count: int) -> Any:
    """Is replaced by a chord."""
    return self.replace(chord(group(plus.s(i, i) for i in range(count)), total.s()))


@app.task(bind=True)
def become(self: Any, sig: Any) -> Any:
    return self.replace(sig)


@app.task(bind=True)
def add_more(self: Any, values: list[int]) -> int:
    for value in values:
        self.add_to_chord(member.s(value))
    return 0


@app.task(bind=True)
def note_failure(self: Any, task_id: str) -> None:
    write("begin", f"errback-of-{task_id}")


@app.task
def note_error(request: Any, error: BaseException, traceback: str) -> None:
    write("begin", f"error-{type(error).__name__}-of-{request.id}")
