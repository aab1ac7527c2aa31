"""Tasks that overrun their time limits in every way, and write into the ledger what reached them.

Events beside ``begin`` and ``end``: ``soft`` (SoftTimeLimitExceeded was seen), ``clean`` (a ``finally`` ran).
"""

from __future__ import annotations

import asyncio
import os
import signal
import time
from pathlib import Path
from typing import Any

from apps.ledger import app, write
from umbel.bootsteps import StartStopStep
from umbel.errors import SoftTimeLimitExceeded, TaskRevokedError
from umbel.executors.packets import Report
from umbel.signals import task_failure
from umbel.worker.ending_tasks import Sentence


def wait(seconds: float) -> None:
    """In steps, so that an exception can be raised between them in every pool."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        time.sleep(0.01)


@app.task(bind=True)
def overrun(self: Any, seconds: float = 30.0) -> str:
    """Waits; returns "cleaned up" when the soft limit came."""
    write("begin", self.request.id)
    try:
        wait(seconds)
    except SoftTimeLimitExceeded:
        write("soft", self.request.id)
        return "cleaned up"
    finally:
        write("clean", self.request.id)
    write("end", self.request.id)
    return "done"


@app.task(bind=True)
async def overrun_async(self: Any, seconds: float = 30.0) -> str:
    write("begin", self.request.id)
    try:
        await asyncio.sleep(seconds)
    except SoftTimeLimitExceeded:
        write("soft", self.request.id)
        return "cleaned up"
    finally:
        write("clean", self.request.id)
    write("end", self.request.id)
    return "done"


@app.task(bind=True)
def unprepared(self: Any, seconds: float = 30.0) -> None:
    write("begin", self.request.id)
    wait(seconds)


@app.task(bind=True)
async def unprepared_async(self: Any, seconds: float = 30.0) -> None:
    write("begin", self.request.id)
    await asyncio.sleep(seconds)


@app.task(bind=True, soft_time_limit=0.3)
def soft_by_itself(self: Any) -> None:
    wait(30)


if "OVERRUNNING_HARD" in os.environ:

    @app.task(bind=True, time_limit=0.3)
    def hard_by_itself(self: Any) -> None:
        wait(30)


@app.task(bind=True)
def sleep(self: Any, seconds: float = 30.0) -> None:
    """One call that blocks."""
    write("begin", self.request.id)
    time.sleep(seconds)


@app.task(bind=True)
def block_in_c(self: Any) -> None:
    """Holds the interpreter's lock for much longer than any test."""
    write("begin", self.request.id)
    sum(range(1 << 60))


@app.task(bind=True)
def swallow(self: Any) -> None:
    """Lets no exception through."""
    write("begin", self.request.id)
    while True:
        try:
            time.sleep(0.01)
        except BaseException:
            write("swallowed", self.request.id)


@app.task(bind=True)
async def swallow_async(self: Any) -> None:
    write("begin", self.request.id)
    while True:
        try:
            await asyncio.sleep(0.01)
        except BaseException:
            write("swallowed", self.request.id)


@app.task(bind=True)
def neighbour(self: Any, seconds: float) -> int:
    write("begin", self.request.id)
    wait(seconds)
    write("end", self.request.id)
    return self.request.deliveries


@app.task(bind=True)
async def neighbour_async(self: Any, seconds: float) -> int:
    write("begin", self.request.id)
    await asyncio.sleep(seconds)
    write("end", self.request.id)
    return self.request.deliveries


@app.task(bind=True, autoretry_for=(SoftTimeLimitExceeded,), default_retry_delay=0, retry_jitter=False, max_retries=3)
def succeed_at(self: Any, attempt: int) -> int:
    """Overruns until it was retried ``attempt`` times."""
    write("begin", self.request.id)
    if self.request.retries < attempt:
        wait(30)
    return self.request.retries


@app.task(bind=True, autoretry_for=(SoftTimeLimitExceeded,), default_retry_delay=0, retry_jitter=False, max_retries=3)
async def succeed_at_async(self: Any, attempt: int) -> int:
    write("begin", self.request.id)
    if self.request.retries < attempt:
        await asyncio.sleep(30)
    return self.request.retries


@app.task(bind=True, acks_late=False)
def overrun_once(self: Any) -> None:
    write("begin", self.request.id)
    wait(30)


@app.task(bind=True, acks_on_timeout=False)
def overrun_refused(self: Any) -> None:
    write("begin", self.request.id)
    wait(30)


@app.task
def pid() -> int:
    return os.getpid()


@app.task
def spin(seconds: float) -> bool:
    """Returns as closely as it can to the moment when its limit ends: True, unless that came first."""
    deadline = time.perf_counter() + seconds
    while time.perf_counter() < deadline:
        pass
    return True


@app.task
async def spin_async(seconds: float) -> bool:
    await asyncio.sleep(seconds)
    return True


@app.task
def on_error(task_id: str) -> None:
    write("errback", task_id)


@app.task(bind=True, acks_late=False)
def neighbour_once(self: Any, seconds: float) -> None:
    write("begin", self.request.id)
    wait(seconds)


@task_failure.connect
def on_failure(task_id: str, **kwargs: Any) -> None:
    write("failed", task_id)


class Endings(StartStopStep):
    """Ends tasks as revocations do: those whose ids are the names of files in the directory ``OVERRUNNING_ENDINGS``."""

    blueprint = "worker"
    requires = ("umbel.worker.components:Pool",)

    async def start(self, worker: Any) -> None:
        self.watching = asyncio.get_running_loop().create_task(self.watch(worker))

    async def watch(self, worker: Any) -> None:
        done: set[str] = set()
        while True:
            await asyncio.sleep(0.02)
            for task_id in {path.name for path in Path(os.environ["OVERRUNNING_ENDINGS"]).iterdir()} - done:
                done.add(task_id)
                worker.ender.end(task_id, lambda message: self.sentence(worker, message))

    def sentence(self, worker: Any, message: Any) -> Sentence:
        lost = worker.flow.intake.consequences(message, "REVOKED", TaskRevokedError("terminated"))
        report = Report("REVOKED", 0.0, lost.result, lost.publish, parts=lost.parts)
        return Sentence(report, "a test wants it", number=signal.SIGTERM)

    async def shutdown(self, worker: Any) -> None:
        self.watching.cancel()


if "OVERRUNNING_ENDINGS" in os.environ:
    app.steps["worker"].add(Endings)
