"""An application whose every execution is written to a ledger, so that what was lost or doubled can be counted.

The ledger is a file to which each execution appends one line when it begins and one when it ends, in one ``write``
each (``O_APPEND``), so that lines of several processes never mix: ``<begin|end> <task id> <pid> <time>``.
"""

from __future__ import annotations

import ctypes
import logging
import os
import signal
import sys
import time
from typing import Any

import psutil

from umbel import Umbel
from umbel.log import get_task_logger

app = Umbel("ledger", broker=os.environ.get("LEDGER_BROKER"), backend=os.environ.get("LEDGER_BACKEND"))


if "LEDGER_HANDLER" in os.environ:
    logging.basicConfig(format="own handler: %(message)s", level="INFO")


def write(event: str, task_id: str) -> None:
    line = f"{event} {task_id} {os.getpid()} {time.time():.6f}\n".encode()
    fd = os.open(os.environ["LEDGER_FILE"], os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
    try:
        os.write(fd, line)
    finally:
        os.close(fd)


def supervisor_pid() -> int:
    """The process that forked the nursery that forked this executor."""
    return psutil.Process(os.getppid()).ppid()


@app.task(bind=True)
def record(self: Any, seconds: float = 0.0) -> str:
    """Takes ``seconds`` and returns its id."""
    write("begin", self.request.id)
    if seconds:
        time.sleep(seconds)
    write("end", self.request.id)
    return self.request.id


@app.task(bind=True)
def record_pid(self: Any, seconds: float = 0.0) -> int:
    """Takes ``seconds`` and returns the process that ran it."""
    write("begin", self.request.id)
    time.sleep(seconds)
    write("end", self.request.id)
    return os.getpid()


@app.task(bind=True, acks_late=False)
def record_at_most_once(self: Any, seconds: float = 0.0) -> str:
    write("begin", self.request.id)
    time.sleep(seconds)
    write("end", self.request.id)
    return self.request.id


@app.task(bind=True, max_retries=3, default_retry_delay=0)
def retry_when(self: Any, go: str) -> None:
    """Retries itself once the file ``go`` is there."""
    write("begin", self.request.id)
    while not os.path.exists(go):
        time.sleep(0.02)
    raise self.retry()


@app.task(bind=True, max_retries=5, default_retry_delay=0.05)
def succeed_at(self: Any, attempt: int) -> int:
    """Fails with a retry until it was retried ``attempt`` times."""
    write("begin", self.request.id)
    if self.request.retries < attempt:
        raise self.retry()
    write("end", self.request.id)
    return self.request.retries


@app.task
def add(x: int, y: int) -> int:
    return x + y


@app.task
def say(text: str) -> None:
    """Says it to every place that a task can write to."""
    get_task_logger(__name__).info("to the task's logger: %s", text)
    logging.getLogger("library").warning("to a logger of a library: %s", text)
    print("printed:", text)
    print("complained:", text, file=sys.stderr)


@app.task
def fail(text: str) -> None:
    raise ValueError(text)


@app.task(bind=True)
def misbehave(self: Any, how: str) -> str:
    """What no task should do."""
    write("begin", self.request.id)
    if how == "exit":
        sys.exit(3)
    if how == "_exit":
        os._exit(3)
    if how == "segfault":
        ctypes.string_at(0)
    if how == "kill":
        os.kill(os.getpid(), signal.SIGKILL)
    if how == "kill the worker":
        os.kill(supervisor_pid(), signal.SIGKILL)
        time.sleep(60)
    if how == "fork":
        pid = os.fork()
        if pid == 0:
            os._exit(0)
        os.waitpid(pid, 0)
    if how == "fork and return in both":
        os.fork()
    if how == "stdout":
        for _ in range(1000):
            print("x" * 10_000)
    if how == "signals":
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        signal.signal(signal.SIGINT, signal.SIG_IGN)
    write("end", self.request.id)
    return how


@app.task
def unserializable() -> object:
    return object()


@app.task
def big(size: int) -> str:
    return "x" * size


hoarded: list[bytearray] = []


@app.task
def hoard(size: int) -> int:
    """Keeps ``size`` MiB for ever; returns the process that does."""
    hoarded.append(bytearray(size << 20))
    return os.getpid()


@app.task
def length(text: str) -> int:
    return len(text)


@app.task
async def add_later(x: int, y: int) -> int:
    import asyncio

    await asyncio.sleep(0.01)
    return x + y


@app.task(bind=True)
def steps(self: Any, count: int) -> int:
    for done in range(count):
        self.progress(done, count)
    return count


if "LEDGER_DEPLOYED" in os.environ:

    @app.task
    def arrived_later(x: int) -> int:
        return x + 1
