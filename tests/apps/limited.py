"""Tasks with rate limits. Each run appends one line to the ledger: ``begin <id> <pid> <time>``."""

from __future__ import annotations

import os
from typing import Any

from apps.ledger import write
from umbel import Umbel

app = Umbel("limited", broker=os.environ.get("LEDGER_BROKER"), backend=os.environ.get("LEDGER_BACKEND"))


@app.task(rate_limit="20/s", rate_limit_scope="cluster", bind=True, ignore_result=True)
def slow(self: Any) -> None:
    write("begin", self.request.id)


@app.task(rate_limit="500/s", rate_limit_scope="cluster", bind=True, ignore_result=True)
def quick(self: Any) -> None:
    write("begin", self.request.id)


@app.task(rate_limit="50/s", rate_limit_scope="cluster", bind=True, ignore_result=True)
def paced(self: Any) -> None:
    write("begin", self.request.id)


@app.task(rate_limit="50/s", rate_limit_key="{tenant}", bind=True, ignore_result=True)
def paced_by_worker(self: Any, tenant: str = "north") -> None:
    write("begin", self.request.id)


@app.task(rate_limit="10/s", bind=True, ignore_result=True)
def each(self: Any) -> None:
    """Limited in each worker."""
    write("begin", self.request.id)


@app.task(rate_limit="10/s", rate_limit_scope="cluster", rate_limit_key="{tenant}", bind=True, ignore_result=True)
def keyed(self: Any, tenant: str) -> None:
    write("begin", self.request.id)


@app.task(rate_limit="10/s", rate_limit_key=lambda share: 1 / share, bind=True)
def divided(self: Any, share: float) -> float:
    write("begin", self.request.id)
    return share


@app.task(bind=True, ignore_result=True)
def free(self: Any) -> None:
    write("begin", self.request.id)
