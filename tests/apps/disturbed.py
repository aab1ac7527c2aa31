"""What the load is made of while pools are disturbed: tasks that return their ids, sync, async, and at most once.

With the tasks of ``apps.overrunning``, and a size of the worker that is read from a file (``apps.scaled``).
"""

from __future__ import annotations

import asyncio
from typing import Any

from apps.ledger import record, record_at_most_once, write
from apps.overrunning import overrun, overrun_async, swallow, swallow_async
from apps.scaled import app

__all__ = ["app", "overrun", "overrun_async", "record", "record_at_most_once", "swallow", "swallow_async"]


@app.task(bind=True)
async def record_async(self: Any, seconds: float = 0.0) -> str:
    """Takes ``seconds`` and returns its id."""
    write("begin", self.request.id)
    await asyncio.sleep(seconds)
    write("end", self.request.id)
    return self.request.id
