"""Time limits: which a task has, and the end of those that overrun a hard one.

The supervisor decides both limits of a message when it is admitted, and sends the soft one along to the executor. Hard
ones it watches itself: the board says since when each lane runs what, so there is nothing to send, and a timer is set
for the earliest moment at which any limit can be over. Without limits there is no timer.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING

import msgspec
from msgspec import Struct

from umbel.backends.base import Result
from umbel.endings import timed_out
from umbel.errors import ConfigurationError, TimeLimitExceeded, UmbelError
from umbel.executors.executor import packed
from umbel.executors.packets import Report
from umbel.reading import read_call
from umbel.worker.ending_tasks import Sentence

if TYPE_CHECKING:
    from umbel.app import Umbel
    from umbel.executors.board import Board
    from umbel.message import Message
    from umbel.worker.ending_tasks import TaskEnder
    from umbel.worker.flow import Flow
    from umbel.worker.job import Job
    from umbel.worker.pool import ExecutorHandle

logger = logging.getLogger("umbel.worker")

LOOK_AGAIN = 0.02
"""Seconds between two looks at the board, at least."""

_NEVER = float("inf")
_OWN_LIMITS = b'"timelimit"'
_NO_LIMITS = (b'"timelimit":[null,null]', b'"timelimit": [null, null]')

Limits = tuple[float | None, float | None]
"""Hard and soft limit in seconds; None: without."""


class _TimeLimitHeader(Struct):
    timelimit: tuple[float | None, float | None] | None = None


_header_decoder = msgspec.json.Decoder(_TimeLimitHeader)


class TimeLimits:
    """Hard and soft limit of each message: those of the call, else of its task, else of the settings.

    What tasks have is looked up once; a change of a task's limits while the worker runs is to be made in this table.
    """

    def __init__(self, app: Umbel) -> None:
        self._app = app
        self._of_tasks: dict[str, Limits | None] = {}

    def of(self, message: Message) -> Limits | None:
        """None where it has neither."""
        try:
            own = self._of_tasks[message.task]
        except KeyError:
            own = self._of_tasks[message.task] = self._of_task(message.task)
        headers = message.headers
        if _NO_LIMITS[0] in headers or _NO_LIMITS[1] in headers or _OWN_LIMITS not in headers:
            return own
        return _combined(_header_of(headers), own or (None, None))

    def _of_task(self, name: str) -> Limits | None:
        task, conf = self._app.tasks[name], self._app.conf
        return _combined((task.time_limit, task.soft_time_limit), (conf.task_time_limit, conf.task_soft_time_limit))


def _combined(nearer: Limits, farther: Limits) -> Limits | None:
    limits = nearer[0] or farther[0] or None, nearer[1] or farther[1] or None
    return limits if limits != (None, None) else None


def _header_of(headers: bytes) -> Limits:
    """Limits of the call. A header of another form is the executor's to refuse."""
    try:
        return _header_decoder.decode(headers).timelimit or (None, None)
    except msgspec.MsgspecError:
        return None, None


def refuse_hard_limits(app: Umbel, pool: str) -> None:
    """For a pool that cannot end a task by force. Raises ConfigurationError where settings or tasks want that."""
    conf = app.conf
    if conf.task_time_limit:
        what = f"task_time_limit ({conf.task_time_limit:g} s)"
    else:
        limited = sorted(name for name, task in app.tasks.items() if task.time_limit)
        if not limited:
            return
        what = f"time_limit of {', '.join(limited)}"
    raise ConfigurationError(
        f"the pool {pool} cannot enforce hard time limits, because a thread cannot be killed: remove {what}, or choose "
        f"another pool; soft time limits work"
    )


class HardLimits:
    """Watches running tasks, and has those ended that overrun."""

    def __init__(
        self,
        app: Umbel,
        flow: Flow,
        board: Board,
        executors: Callable[[], list[ExecutorHandle]],
        ender: TaskEnder,
        call_soon: Callable[..., None],
        hostname: str,
    ) -> None:
        """``call_soon``: calls a function in the event loop, from any thread. ``hostname``: the node's name."""
        self._app = app
        self._hostname = hostname
        self._flow = flow
        self._board = board
        self._executors = executors
        self._ender = ender
        self._call_soon = call_soon
        self._least = _NEVER
        self._timer: asyncio.TimerHandle | None = None

    def expect(self, limit: float) -> None:
        """With the flow's lock: a task with this limit, in seconds, was admitted. It cannot be over any sooner."""
        if limit < self._least:
            self._least = limit
            self._call_soon(self._look)

    def _look(self) -> None:
        now = time.monotonic()
        nearest = _NEVER
        for executor in self._executors():
            for number, since in executor.running(self._board):
                job = executor.jobs.get(number)
                if job is None or job.hard is None:
                    continue
                if since + job.hard > now:
                    nearest = min(nearest, since + job.hard)
                elif self._flow.sentence_of(number) is None:
                    self._enforce(executor, job, job.hard, now - since)
        self._rest_until(nearest, now)

    def _rest_until(self, nearest: float, now: float) -> None:
        """Look again when the next limit is over, or could be: what begins from now on has ``_least`` seconds."""
        least, self._least = self._least, _NEVER
        if self._flow.busy():
            self._least = min(self._least, least)
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        nearest = min(nearest, now + self._least)
        if nearest != _NEVER:
            delay = max(LOOK_AGAIN, nearest - time.monotonic())
            self._timer = asyncio.get_running_loop().call_later(delay, self._look)

    def _enforce(self, executor: ExecutorHandle, job: Job, limit: float, runtime: float) -> None:
        sentence = self._sentence(job.message, limit, runtime)
        if self._flow.condemn_running(executor, job, sentence):
            self._ender.interrupt(executor, job.number)

    def _sentence(self, message: Message, limit: float, runtime: float) -> Sentence:
        error = TimeLimitExceeded(limit)
        states: list[Result] = []
        later: list[Callable[[], object]] = []
        try:
            task, request, request.args, request.kwargs = read_call(self._app, message)
            request.reporter = states.append
            request.hostname = self._hostname
            report = packed(timed_out(self._app, task, request, error, runtime, later))
        except UmbelError:
            logger.exception(
                "the outcome of a task that overran cannot be made: task=%s id=%s", message.task, message.id
            )
            lost = self._flow.intake.consequences(message, "FAILURE", error)
            report = Report("FAILURE", runtime, lost.result, publish=lost.publish, error=str(error), parts=lost.parts)
            states += lost.fallout
        return Sentence(
            report,
            f"its hard time limit of {limit:g} s is over",
            tuple(states),
            tell=partial(self._tell, message, error, later),
        )

    def _tell(self, message: Message, error: TimeLimitExceeded, later: list[Callable[[], object]]) -> None:
        self._flow.telling.failed(message, error)
        for call in later:
            call()
