"""Has a nursery run the way of a task before it forks executors, so that each of them begins warm.

CPython specializes the code of a function as it runs, in the memory of that code. Where that was done before the fork
executors share it; otherwise each of them does it again, and has its own copy of every page that it writes to. It is
most of what a new executor costs.
"""

from __future__ import annotations

import gc
import logging
import os
import time
from typing import TYPE_CHECKING

from umbel.executors import packets
from umbel.executors.board import Board
from umbel.executors.channel import open_channel, open_executor_end
from umbel.executors.executor import Executor
from umbel.executors.recycling import recycling_end
from umbel.message import PROTOCOL_2_EMPTY_EMBED, Headers, Message, encode_headers
from umbel.plans import Plan
from umbel.registry import TaskRegistry
from umbel.signals import task_postrun, task_prerun, task_success
from umbel.task import Task

if TYPE_CHECKING:
    from umbel.app import Umbel

logger = logging.getLogger("umbel.worker.nursery")

_RUNS = 40
"""Tasks: CPython has specialized what it will by then."""


def warm_up(app: Umbel) -> None:
    """Run a task that does nothing, in this thread. Nothing of the application's own code runs, nothing is sent.

    Not done where receivers of signals would be told. What fails here will fail where it matters, and is told there.
    """
    if task_prerun.receivers or task_success.receivers or task_postrun.receivers:
        return
    channel, board = open_channel(), Board(1)
    try:
        board.lease_end = time.monotonic() + 60
        for number in range(1, _RUNS + 1):
            channel.send(packets.encode_task(number, _message(), 0))
        channel.send(packets.encode_stop())
        end = recycling_end(app, open_executor_end(os.dup(channel.executor_fd())))
        Executor(_with_one_task(app), end, board, 0, "").run()
    except Exception:
        logger.debug("executors begin cold", exc_info=True)
    finally:
        channel.close()
        board.close()
    gc.collect()
    gc.freeze()


_NAME = "umbel.warm_up"


def _with_one_task(app: Umbel) -> Umbel:
    """The application with its settings and drivers, and no task but one, around which there is nothing of anybody."""
    app.backend  # noqa: B018 - opened for both, and for the executors to be
    alike = object.__new__(type(app))
    alike.__dict__.update(app.__dict__)
    alike.registered = TaskRegistry()
    task = alike.make_task(lambda: None, name=_NAME, base=Task)
    task.__dict__["_plan"] = Plan(lambda: None, False, None, None, None, None, None)
    return alike


def _message() -> Message:
    body = b'[[],{},{"' + b'":null,"'.join(name.encode() for name in PROTOCOL_2_EMPTY_EMBED) + b'":null}]'
    return Message(id=_NAME, task=_NAME, queue="", headers=encode_headers(Headers(task=_NAME, id=_NAME)), body=body)
