"""Has a nursery go the way of executors before it forks any, so that each of them begins warm.

CPython specializes the code of a function as it runs, and remembers where it has found attributes, in memory. Where
that was done before the fork executors share it; otherwise each of them does it again, and has its own copy of every
page that it writes to. It is most of what a new executor costs.
"""

from __future__ import annotations

import gc
import logging
import os
import time
from typing import TYPE_CHECKING, Any

from umbel.executors import packets
from umbel.executors.board import Board
from umbel.executors.channel import new_buffer, open_channel, open_executor_end
from umbel.executors.lanes.base import Station
from umbel.executors.lanes.prefork import PreforkLanes
from umbel.executors.recycling import Life, life_of, recycling_end
from umbel.message import PROTOCOL_2_EMPTY_EMBED, Headers, Message, encode_headers
from umbel.plans import Plan, plan_of
from umbel.registry import TaskRegistry
from umbel.signals import task_postrun, task_prerun, task_success
from umbel.task import Task

if TYPE_CHECKING:
    from umbel.app import Umbel
    from umbel.executors.channel import ExecutorEnd

logger = logging.getLogger("umbel.worker.nursery")

_LIVES, _TASKS = 10, 4
"""Of executors, and of tasks in each: CPython has specialized what it will by then."""


def warm_up(app: Umbel) -> None:
    """Be an executor of tasks that do nothing, some times, in this thread. Nothing of the application's own code runs,
    nothing is sent.

    Not done where receivers of signals would be told. What fails here will fail where it matters, and is told there.
    """
    if task_prerun.receivers or task_success.receivers or task_postrun.receivers:
        return
    channel, board = open_channel(), Board(1)
    try:
        board.lease_end = time.monotonic() + 60
        alike, life, buffer = _with_one_task(app), life_of(app), new_buffer()
        for _ in range(_LIVES):
            for number in range(1, _TASKS + 1):
                channel.send(packets.encode_task(number, _message(b'"done"' if number % 2 else b""), 0))
            channel.send(packets.encode_stop())
            end: ExecutorEnd = open_executor_end(os.dup(channel.executor_fd()), buffer)
            if life is not None:
                end = recycling_end(end, Life(_TASKS + 1, life.memory and 1 << 40))
            PreforkLanes(Station(alike, end, board, 0, 1, "")).run()
    except Exception:
        logger.debug("executors begin cold", exc_info=True)
    finally:
        channel.close()
        board.close()


def plan_tasks(app: Umbel) -> None:
    """Find out about the application's tasks what executors would find out when they run them."""
    app.accept()
    if len(app.middleware):
        return  # whose code is asked where it runs
    for task in app.registered.values():
        try:
            plan_of(task)
        except Exception:
            logger.debug("it will be seen where it runs what is wrong with %s", task.name, exc_info=True)


def tidy_memory() -> None:
    """To be done last: the garbage collector of executors is not to touch anything that was there before the fork."""
    gc.collect()
    gc.freeze()


_NAME = "umbel.warm_up"


def _do_nothing(value: Any = None) -> Any:
    return value


def _with_one_task(app: Umbel) -> Umbel:
    """The application with its settings and drivers, and no task but one, around which there is nothing of anybody."""
    app.backend  # noqa: B018 - opened for both, and for the executors to be
    alike = object.__new__(type(app))
    alike.__dict__.update(app.__dict__)
    alike.registered = TaskRegistry()
    task = alike.make_task(_do_nothing, name=_NAME, base=Task)
    task.__dict__["_plan"] = Plan(_do_nothing, False, None, None, None, None, None)
    return alike


def _message(args: bytes) -> Message:
    body = b'[[%s],{},{"' % args + b'":null,"'.join(name.encode() for name in PROTOCOL_2_EMPTY_EMBED) + b'":null}]'
    return Message(id=_NAME, task=_NAME, queue="", headers=encode_headers(Headers(task=_NAME, id=_NAME)), body=body)
