"""The body of an executor process, and of the thread that stands for one with ``solo``."""

from __future__ import annotations

import logging
import os
import signal
from typing import TYPE_CHECKING

from umbel.errors import UmbelError
from umbel.executors.channel import open_executor_end
from umbel.executors.lanes.base import Lanes, Station
from umbel.executors.recycling import recycling_end
from umbel.log.setup import enter_executor
from umbel.signals import worker_process_init, worker_process_shutdown
from umbel.worker.stacks import dump_on_signal

if TYPE_CHECKING:
    from umbel.app import Umbel
    from umbel.executors.board import Board

logger = logging.getLogger("umbel.executor")


def run_executor(
    kind: type[Lanes], app: Umbel, board: Board, count: int, hostname: str, slot: int, fd: int, bell: int = -1
) -> None:
    """Body of a freshly forked executor process. Returns when it is to exit.

    ``slot``: its place in the pool; its ``count`` lanes have the board's slots from ``slot * count`` on. ``fd``: its
    end of the channel; ``bell``: of the bell, where it has one.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    if enter_executor(slot):
        dump_on_signal()
    app.after_fork()
    try:
        run_lanes(kind, app, board, count, hostname, slot, fd, bell)
    finally:
        try:
            app.close()
        except UmbelError:
            logger.warning("closing the connections of an executor failed", exc_info=True)


def run_lanes(
    kind: type[Lanes], app: Umbel, board: Board, count: int, hostname: str, slot: int, fd: int, bell: int = -1
) -> None:
    """Run tasks in ``count`` lanes of this process until told to stop."""
    code = 1
    opened = open_executor_end(fd)
    try:
        worker_process_init.send()
        end = recycling_end(app, opened)
        kind(Station(app, end, board, slot * count, count, hostname, bell)).run()
        code = 0
    finally:
        opened.close()
        worker_process_shutdown.send(pid=os.getpid(), exitcode=code)
