"""Ends running tasks by force, in every pool: for hard time limits and for revocations.

Who asks says what becomes of the task, by a ``Sentence``: the outcome that is stored, settled and told instead of the
one that its process would have reported. It is prepared beforehand, without the flow's lock, and takes effect when the
task has really ended. A task that ends by itself in the meantime keeps its own outcome.

How a task is ended depends on its process:

* one lane (``prefork``): the process gets the signal of the sentence, and ``SIGKILL`` ``KILL_AFTER`` seconds later;
* several lanes: the bell tells the executor to end that task (a coroutine is cancelled, greenlets and threads get
  ``TaskEnded``); if the task still runs after ``worker_cancel_grace`` seconds, the process is killed;
* ``solo``: only the former, since nobody can kill a thread;
* lanes of other packages that do not listen to the bell: the process is killed.

A process that is killed for one task is not blamed on the others: what it has not begun is taken back at once, its
successor starts at once, and what it had begun is run again without being counted, except for tasks that are not to be
run twice (``acks_late=False``, ``reject_on_worker_lost=False``), which fail.
"""

from __future__ import annotations

import asyncio
import logging
import signal
from collections.abc import Callable
from typing import TYPE_CHECKING

from msgspec import Struct

from umbel.backends.base import Result
from umbel.executors.packets import Report

if TYPE_CHECKING:
    from umbel.executors.board import Board
    from umbel.message import Message
    from umbel.worker.flow import Flow
    from umbel.worker.pool import ExecutorHandle, Pool

logger = logging.getLogger("umbel.worker")

KILL_AFTER = 3.0
"""Seconds that a process of one lane has between another signal and SIGKILL."""


class Sentence(Struct, frozen=True, gc=False):
    """What becomes of a task that is ended by force.

    ``report``: as if its executor had reported it: state, result, messages to publish, how the delivery is settled.
    ``results``: more to be stored. ``reason``: for the log, "its hard time limit of 3 s is over". ``number``: signal
    for a process of one lane. ``tell``: called once the sentence has taken effect, in a thread of the link, without
    the flow's lock: sends signals; may raise UmbelError.
    """

    report: Report
    reason: str
    results: tuple[Result, ...] = ()
    number: int = signal.SIGKILL
    tell: Callable[[], object] | None = None


class TaskEnder:
    """Ends tasks of one worker. Everything here belongs to the event loop's thread.

    ``grace``: seconds that a lane of several has to let go of its task.
    """

    def __init__(
        self, flow: Flow, board: Board, pool: Callable[[], Pool | None], grace: float, unkillable: bool
    ) -> None:
        """``unkillable``: executors are threads of this process (``solo``)."""
        self._flow = flow
        self._board = board
        self._pool = pool
        self._grace = grace
        self._unkillable = unkillable

    def end(self, task_id: str, sentence: Callable[[Message], Sentence]) -> bool:
        """End the task of this id, whatever it is doing here: what has not begun never will, what runs is interrupted.

        Returns whether this worker holds it; False also when somebody else ends it already. ``sentence`` is called at
        most once, at once, without the flow's lock.
        """
        message = self._flow.message_of(task_id)
        if message is None:
            return False
        condemned = self._flow.condemn(task_id, sentence(message))
        if condemned is None:
            return False
        executor, number = condemned
        if executor is not None:
            self.interrupt(executor, number)
        return True

    def interrupt(self, executor: ExecutorHandle, number: int) -> None:
        """Stop the condemned task ``number`` of ``executor``, by its way of ending tasks."""
        if executor.bell is not None:
            executor.ring(number)
            self._later(self._grace, executor, number)
            return
        sentence = self._flow.sentence_of(number)
        if sentence is None:
            return
        how = sentence.number if executor.lanes == 1 else signal.SIGKILL
        self._kill(executor, number, sentence, how)

    def _later(self, seconds: float, executor: ExecutorHandle, number: int) -> None:
        asyncio.get_running_loop().call_later(seconds, self._on_grace_over, executor, number)

    def _on_grace_over(self, executor: ExecutorHandle, number: int) -> None:
        sentence = self._flow.sentence_of(number)
        if executor.exited or sentence is None:
            return
        if executor.bell is not None and not executor.ending:
            if not executor.is_running(self._board, number):
                executor.ring(number)  # it was read but has not begun, or its end was not heard of yet
                self._later(self._grace, executor, number)
                return
            if self._unkillable:
                logger.warning(
                    "a task cannot be ended, its thread goes on", extra={"data": {"reason": sentence.reason}}
                )
                return
        self._kill(executor, number, sentence, signal.SIGKILL)

    def _kill(self, executor: ExecutorHandle, number: int, sentence: Sentence, how: int) -> None:
        pool = self._pool()
        if pool is None or executor.exited:
            return
        if not executor.pid:
            self._later(0.02, executor, number)  # the nursery's news of it are still on their way
            return
        data = {"pid": executor.pid, "signal": signal.Signals(how).name, "reason": sentence.reason}
        logger.info("a process is killed to end its task", extra={"data": data})
        self._flow.retire(executor, ending=True)
        pool.nursery.kill(executor.pid, how)
        pool.fill()
        if how != signal.SIGKILL:
            self._later(KILL_AFTER, executor, number)
