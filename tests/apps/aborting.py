"""Tasks that look whether they were asked to stop, and one that opens a debugger."""

from __future__ import annotations

import os
import time
from typing import Any

from apps.ledger import app, write
from umbel.abortable import AbortableTask
from umbel.rdb import Rdb


@app.task(bind=True, base=AbortableTask)
def until_aborted(self: Any, seconds: float = 30.0, progress: bool = False) -> str:
    write("begin", self.request.id)
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if self.is_aborted():
            write("aborted", self.request.id)
            return "stopped early"
        if progress:
            self.progress(1, 2)
        time.sleep(0.02)
    return "done"


@app.task(bind=True)
def debugged(self: Any, x: int, y: int) -> int:
    debugger = Rdb(port=int(os.environ["ABORTING_RDB_PORT"]))
    total = x + y
    debugger.set_trace()
    return total
