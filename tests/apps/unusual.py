"""Members of canvases that end in uncommon ways, or are held up by limits."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path
from typing import Any

from apps.canvases import app as app
from umbel import Unique
from umbel.errors import Ignore, Reject


@app.task(acks_late=False)
def crashes_at_most_once(value: int) -> None:
    os.kill(os.getpid(), signal.SIGKILL)


@app.task(unique=Unique(until="start"))
def unique_until_start(value: int) -> int:
    return value


@app.task(unique=True)
def unique_until_done(value: int) -> int:
    time.sleep(0.05)
    return value


@app.task(max_concurrency=1)
def one_at_a_time(value: int) -> int:
    time.sleep(0.05)
    return value


@app.task(bind=True, max_retries=3, default_retry_delay=0)
def ends(self: Any, how: str) -> Any:
    """Ends in an uncommon way."""
    if how == "ignored":
        raise Ignore
    if how == "rejected":
        raise Reject("not for me", requeue=False)
    if how == "rejected and put back":
        mark = Path(f"{os.environ['LEDGER_FILE']}-{self.request.id}")
        if not mark.exists():
            mark.touch()
            raise Reject("later", requeue=True)
    if how == "retried" and self.request.retries < 2:
        raise self.retry()
    if how == "retried too often":
        raise self.retry()
    if how == "overrun":
        time.sleep(60)
    if how == "unserializable":
        return object()
    if how == "exited":
        raise SystemExit(3)
    return 1
