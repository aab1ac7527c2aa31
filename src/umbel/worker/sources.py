"""Where the executors of a pool come from: a forked nursery, one that patches first, or the supervisor itself."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from umbel.executors.fresh import FreshNursery, check_unpatched
from umbel.executors.nursery import Nursery
from umbel.executors.process import ExecutorBody, run_lanes
from umbel.executors.solo import Solo

if TYPE_CHECKING:
    from umbel.app import Umbel
    from umbel.executors.board import Board
    from umbel.executors.lanes.base import Lanes
    from umbel.worker.pool import ProcessSource


def open_source(
    kind: type[Lanes], app: Umbel, board: Board, lanes: int, hostname: str, *, embedded: bool = False
) -> ProcessSource:
    """What starts executors with so many ``lanes`` of a ``kind``; while the process has one thread, unless the worker
    is ``embedded`` in a process that has others for good.

    Raises ConfigurationError when the application was patched, or was imported before it could be.
    """
    check_unpatched(kind.name)
    if kind.patch:
        return FreshNursery(kind, app, board, lanes, hostname, embedded=embedded)
    if kind.in_supervisor:
        return Solo(partial(run_lanes, kind, app, board, lanes, hostname))
    body = ExecutorBody(kind, app, board, lanes, hostname)
    return Nursery(body, partial(body.prepare, warm=True), embedded=embedded)
