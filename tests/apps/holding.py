"""Tasks under concurrency limits and unique ones; their executions are written to the ledger."""

from __future__ import annotations

import asyncio
import os
import signal
import time
from pathlib import Path
from typing import Any

from apps.ledger import supervisor_pid, write
from umbel import Umbel, Unique

app = Umbel(
    "holding",
    broker=os.environ.get("LEDGER_BROKER"),
    backend=os.environ.get("LEDGER_BACKEND"),
    worker_lease=float(os.environ.get("HOLDING_LEASE", "5")),
    worker_lease_renewal=0.3,
)


def _run(self: Any, seconds: float) -> str:
    write("begin", self.request.id)
    time.sleep(seconds)
    write("end", self.request.id)
    return self.request.id


@app.task(bind=True, max_concurrency=3)
def three(self: Any, seconds: float = 0.0) -> str:
    return _run(self, seconds)


@app.task(bind=True, max_concurrency=1, concurrency_key="{tenant}")
def one_each(self: Any, tenant: str, seconds: float = 0.0) -> str:
    return _run(self, seconds)


@app.task(bind=True, max_concurrency=1, default_retry_delay=0.05, max_retries=3)
def one_with_retry(self: Any, seconds: float = 0.0) -> int:
    _run(self, seconds)
    if self.request.retries < 2:
        raise self.retry()
    return self.request.retries


@app.task(bind=True, max_concurrency=1, concurrency_key=lambda tenant: tenant["none"])
def bad_key(self: Any, tenant: dict[str, str]) -> str:
    return _run(self, 0)


@app.task(bind=True, max_concurrency=1)
def die(self: Any, what: str) -> str:
    """Kills its executor, or its worker, the first time."""
    write("begin", self.request.id)
    if Path(os.environ["LEDGER_FILE"]).read_text().count(f"begin {self.request.id}") == 1:
        os.kill(os.getpid() if what == "executor" else supervisor_pid(), signal.SIGKILL)
        time.sleep(60)
    write("end", self.request.id)
    return self.request.id


@app.task(bind=True)
def free(self: Any) -> str:
    return _run(self, 0)


@app.task(bind=True, unique=True)
def unique(self: Any, name: str, seconds: float = 0.0) -> str:
    return _run(self, seconds)


@app.task(bind=True, unique=Unique(key="{name}", until="start"))
def unique_until_start(self: Any, name: str, seconds: float = 0.0) -> str:
    return _run(self, seconds)


@app.task(bind=True, unique=Unique(key="{name}", until="start"))
async def unique_until_start_async(self: Any, name: str, seconds: float = 0.0) -> str:
    write("begin", self.request.id)
    await asyncio.sleep(seconds)
    write("end", self.request.id)
    return self.request.id


@app.task(bind=True, unique=Unique(key="{name}", on_conflict="replace"))
def unique_replacing(self: Any, name: str, value: int) -> int:
    _run(self, 0)
    return value


@app.task(bind=True, unique=True, default_retry_delay=3, max_retries=1)
def unique_with_retry(self: Any, name: str, succeed: bool = True) -> int:
    _run(self, 0)
    if self.request.retries == 0 or not succeed:
        raise self.retry()
    return self.request.retries


@app.task(bind=True, unique=True)
def unique_crashing(self: Any, name: str) -> str:
    write("begin", self.request.id)
    os.kill(os.getpid(), signal.SIGKILL)
    return "never"


@app.task(bind=True, unique=Unique(on_conflict="raise"))
def unique_raising(self: Any, name: str) -> str:
    return _run(self, 0)


@app.task(bind=True, unique=True, acks_late=False)
def unique_at_most_once(self: Any, name: str) -> str:
    if name == "crash":
        os.kill(os.getpid(), signal.SIGKILL)
    return _run(self, 0)
