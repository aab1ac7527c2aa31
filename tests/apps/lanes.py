"""Tasks that show in which lane, process and loop they run; each execution is in the ledger (see ``apps.ledger``).

Most come in two forms, sync and async, under the names ``x`` and ``x_async``.
"""

from __future__ import annotations

import asyncio
import os
import signal
import time
from contextvars import ContextVar
from pathlib import Path
from typing import Any

from apps.ledger import app, write
from umbel import current_task

trace: ContextVar[str] = ContextVar("trace", default="untouched")
"""Set by async tasks only: what sync tasks set stays in their lane, as it does without any worker."""

_loops: list[asyncio.AbstractEventLoop] = []


def _begun() -> int:
    return Path(os.environ["LEDGER_FILE"]).read_text().count("begin ")


@app.task(bind=True)
def record(self: Any, seconds: float = 0.0) -> int:
    """Takes ``seconds`` and returns its process."""
    write("begin", self.request.id)
    time.sleep(seconds)
    write("end", self.request.id)
    return os.getpid()


@app.task(bind=True)
async def record_async(self: Any, seconds: float = 0.0) -> int:
    write("begin", self.request.id)
    await asyncio.sleep(seconds)
    write("end", self.request.id)
    return os.getpid()


@app.task(bind=True)
def meet(self: Any, count: int, seconds: float) -> int:
    """Returns how many tasks have begun once there are ``count``, or after ``seconds``."""
    write("begin", self.request.id)
    deadline = time.monotonic() + seconds
    while _begun() < count and time.monotonic() < deadline:
        time.sleep(0.02)
    return _begun()


@app.task(bind=True)
async def meet_async(self: Any, count: int, seconds: float) -> int:
    write("begin", self.request.id)
    deadline = time.monotonic() + seconds
    while _begun() < count and time.monotonic() < deadline:
        await asyncio.sleep(0.02)
    return _begun()


@app.task(bind=True)
def identity(self: Any, name: str) -> list[str]:
    """What this task knows of itself before and after others had their turn."""
    seen = ["", self.request.id, current_task.request.id]
    time.sleep(0.05)
    return [*seen, name, self.request.id, current_task.request.id, self.request.args[0]]


@app.task(bind=True)
async def identity_async(self: Any, name: str) -> list[str]:
    seen = [trace.get(), self.request.id, current_task.request.id]
    trace.set(name)
    await asyncio.sleep(0.05)
    return [*seen, trace.get(), self.request.id, current_task.request.id, self.request.args[0]]


@app.task(bind=True)
def advance(self: Any, name: str, go_on: str) -> str:
    """Tells of progress, and returns once the file ``go_on`` is there."""
    self.update_state(state="PROGRESS", meta={"name": name})
    while not os.path.exists(go_on):
        time.sleep(0.02)
    return name


@app.task(bind=True)
async def advance_async(self: Any, name: str, go_on: str) -> str:
    self.update_state(state="PROGRESS", meta={"name": name})
    while not os.path.exists(go_on):
        await asyncio.sleep(0.02)
    return name


@app.task(bind=True, max_retries=5, default_retry_delay=0.01)
def succeed_at(self: Any, attempt: int) -> int:
    """Retries itself until the attempt of that number."""
    if self.request.retries < attempt:
        raise self.retry()
    return self.request.retries


@app.task(bind=True, max_retries=5, default_retry_delay=0.01)
async def succeed_at_async(self: Any, attempt: int) -> int:
    await asyncio.sleep(0)
    if self.request.retries < attempt:
        raise self.retry()
    return self.request.retries


@app.task
def fail(text: str) -> None:
    raise ValueError(text)


@app.task
async def fail_async(text: str) -> None:
    await asyncio.sleep(0)
    raise ValueError(text)


@app.task
def leave(code: int) -> None:
    """What no task should do."""
    raise SystemExit(code)


@app.task
async def leave_async(code: int) -> None:
    raise SystemExit(code)


@app.task
def echo(text: str) -> str:
    return text


@app.task
async def echo_async(text: str) -> str:
    await asyncio.sleep(0)
    return text


@app.task
def send_more(count: int) -> list[str]:
    """Ids of the tasks that it has sent."""
    return [echo.delay(str(number)).id for number in range(count)]


@app.task
async def send_more_async(count: int) -> list[str]:
    return [(await echo_async.adelay(str(number))).id for number in range(count)]


@app.task
async def loop_number() -> tuple[int, int]:
    """The process, and which of the loops in which this task has run there it runs in."""
    loop = asyncio.get_running_loop()
    if loop not in _loops:
        _loops.append(loop)
    return os.getpid(), _loops.index(loop)


@app.task
async def cancel_itself() -> None:
    task = asyncio.current_task()
    assert task is not None
    task.cancel()
    await asyncio.sleep(1)


@app.task(bind=True)
async def block_the_loop(self: Any, seconds: float) -> str:
    time.sleep(seconds)
    return self.request.id


@app.task(bind=True)
def crash(self: Any, go: str, times: int = 1) -> int:
    """Kills its process once the file ``go`` is there, ``times`` times, then returns how often it was delivered."""
    write("begin", self.request.id)
    while not os.path.exists(go):
        time.sleep(0.02)
    if self.request.deliveries < times:
        os.kill(os.getpid(), signal.SIGKILL)
    write("end", self.request.id)
    return self.request.deliveries


@app.task
def threads_of_this() -> int:
    """Threads of the process, as the kernel counts them."""
    return len(os.listdir("/proc/self/task"))
