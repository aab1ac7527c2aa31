"""``SIGUSR1``: the stacks of all threads of all processes of a worker, in its log file or on standard error.

The dump is made by ``faulthandler`` inside the signal handler, so that it also shows a process that is blocked in C.
The supervisor passes the signal on to nursery and executors, and says in its log which task each of them runs.
"""

from __future__ import annotations

import asyncio
import faulthandler
import logging
import os
import signal
import sys
import time
from typing import TYPE_CHECKING, Any

from umbel.executors.nursery import Nursery
from umbel.log.setup import log_file

if TYPE_CHECKING:
    from umbel.executors.board import Board
    from umbel.worker.pool import ExecutorHandle, Pool

logger = logging.getLogger("umbel.worker.stacks")

SIGNAL = signal.SIGUSR1
_PAUSE = 0.05
"""Seconds between two processes, so that their dumps do not mix."""


def dump_on_signal(*, chain: bool = False) -> None:
    """From now on, in this process and those forked from it. ``chain``: the handler before is called as well."""
    file = log_file() or sys.__stderr__
    if file is not None:
        faulthandler.unregister(SIGNAL)
        faulthandler.register(SIGNAL, file, all_threads=True, chain=chain)


class StackDumper:
    """The supervisor's part."""

    def __init__(self, pool: Pool, board: Board) -> None:
        """Take over the signal in the running event loop; until then only this process answers it."""
        self.pool = pool
        self.board = board
        self._dumping: asyncio.Task[None] | None = None
        faulthandler.unregister(SIGNAL)
        asyncio.get_running_loop().add_signal_handler(SIGNAL, self._begin)
        dump_on_signal(chain=True)

    def _begin(self) -> None:
        if self._dumping is None or self._dumping.done():
            self._dumping = asyncio.get_running_loop().create_task(self._pass_on())

    async def _pass_on(self) -> None:
        logger.warning("stacks of the supervisor are above", extra={"data": {"pid": os.getpid()}})
        if isinstance(self.pool.nursery, Nursery):
            await self._ask(self.pool.nursery.pid, "nursery", {})
        for executor in list(self.pool.executors.values()):
            if executor.pid > 0:
                await self._ask(executor.pid, "executor", self._running(executor))

    async def _ask(self, pid: int, what: str, data: dict[str, Any]) -> None:
        logger.warning("stacks of the %s follow", what, extra={"data": {"pid": pid} | data})
        try:
            os.kill(pid, SIGNAL)
        except ProcessLookupError:
            logger.warning("it has gone", extra={"data": {"pid": pid}})
        await asyncio.sleep(_PAUSE)

    def _running(self, executor: ExecutorHandle) -> dict[str, Any]:
        """What its lanes run: of one lane as it is, of several those that are busy."""
        lanes: list[dict[str, Any]] = []
        for slot in range(executor.slot * executor.lanes, (executor.slot + 1) * executor.lanes):
            number, since = self.board.running(slot)
            if number and (job := executor.jobs.get(number)) is not None:
                running_for = round(time.monotonic() - since, 3)
                lanes.append({"task": job.message.task, "id": job.message.id, "running_for": running_for})
        if executor.lanes == 1:
            return lanes[0] if lanes else {}
        return {"running": lanes}
