"""Tasks whose results are watched: one that tells how far it is, one that sends others."""

from __future__ import annotations

import os
import time
from typing import Any

from umbel import Umbel, group

app = Umbel("reporting", broker=os.environ.get("LEDGER_BROKER"), backend=os.environ.get("LEDGER_BACKEND"))


@app.task
def add(x: int, y: int) -> int:
    return x + y


@app.task(bind=True)
def encode(self: Any, go_on: str) -> str:
    """Is at 2 of 8 until the file ``go_on`` is there."""
    self.progress(2, 8, step="first pass")
    while not os.path.exists(go_on):
        time.sleep(0.02)
    return "encoded"


@app.task
def spread(levels: int) -> int:
    """Sends itself, and a group of two, until no level is left."""
    if levels:
        spread.delay(levels - 1)
        group(add.s(levels, 1), add.s(levels, 2)).apply_async()
    return levels
