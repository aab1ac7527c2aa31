"""The body of an executor process, and of the thread that stands for one with ``solo``."""

from __future__ import annotations

import logging
import os
import signal
from typing import TYPE_CHECKING

from umbel.errors import UmbelError
from umbel.executors.channel import new_buffer, open_executor_end
from umbel.executors.lanes.base import Lanes, Station
from umbel.executors.originals import set_handler
from umbel.executors.recycling import life_of, recycling_end
from umbel.executors.warming import plan_tasks, tidy_memory, warm_up
from umbel.log.setup import enter_executor
from umbel.signals import worker_before_create_process, worker_process_init, worker_process_shutdown
from umbel.worker.stacks import dump_on_signal

if TYPE_CHECKING:
    from umbel.app import Umbel
    from umbel.executors.board import Board
    from umbel.executors.channel import OpenedEnd
    from umbel.executors.recycling import Life

logger = logging.getLogger("umbel.executor")

_SIGTERM, _DEFAULT = int(signal.SIGTERM), int(signal.SIG_DFL)


class ExecutorBody:
    """What runs in freshly forked executors, as a nursery wants it.

    All that is the same for each of them is done once, in the nursery: each page of memory that an executor touches
    is copied for it, which is most of what it costs.
    """

    def __init__(self, kind: type[Lanes], app: Umbel, board: Board, count: int, hostname: str) -> None:
        self.kind = kind
        self.app = app
        self.board = board
        self.count = count
        self.hostname = hostname

    def prepare(self, *, warm: bool) -> None:
        """In the nursery, before it forks any executor. ``warm``: run the way of a task there."""
        self.app.forget_connections()
        self._buffer = new_buffer()
        self._life = life_of(self.app)
        plan_tasks(self.app)
        if warm:
            warm_up(self.app)
        tidy_memory()

    def __call__(self, slot: int, fd: int, bell: int = -1) -> None:
        """Be an executor; returns when it is to exit.

        ``slot``: its place in the pool; its ``count`` lanes have the board's slots from ``slot * count`` on. ``fd``:
        its end of the channel; ``bell``: of the bell, where it has one.
        """
        app = self.app
        set_handler(_SIGTERM, _DEFAULT)
        if enter_executor(slot):
            dump_on_signal()
        if worker_before_create_process.receivers:
            app.forget_connections()  # which those have opened in the nursery
        if app.on_after_fork.receivers:
            app.on_after_fork.send(sender=app)
        try:
            end = open_executor_end(fd, self._buffer)
            _run(self.kind, app, self.board, self.count, self.hostname, slot, end, self._life, bell)
        finally:
            try:
                app.close_connections()
            except UmbelError:
                logger.warning("closing the connections of an executor failed", exc_info=True)


def run_lanes(
    kind: type[Lanes], app: Umbel, board: Board, count: int, hostname: str, slot: int, fd: int, bell: int = -1
) -> None:
    """Run tasks in ``count`` lanes of this process until told to stop."""
    _run(kind, app, board, count, hostname, slot, open_executor_end(fd), life_of(app), bell)


def _run(
    kind: type[Lanes],
    app: Umbel,
    board: Board,
    count: int,
    hostname: str,
    slot: int,
    opened: OpenedEnd,
    life: Life | None,
    bell: int,
) -> None:
    code = 1
    try:
        if worker_process_init.receivers:
            worker_process_init.send()
        end = opened if life is None else recycling_end(opened, life)
        kind(Station(app, end, board, slot * count, count, hostname, bell)).run()
        code = 0
    finally:
        opened.close()
        if worker_process_shutdown.receivers:
            worker_process_shutdown.send(pid=os.getpid(), exitcode=code)
