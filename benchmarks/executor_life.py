"""What the life of an executor costs: processor time and page faults of its process, and of the nursery that forks it.

``python -m benchmarks.executor_life --lives 300 --tasks 100``. Executors live one after the other, each runs so many
tasks that do nothing. The figures are the kernel's for the nursery and its children that have ended (proc(5));
faults do not depend on how busy the machine is. Linux only.
"""

from __future__ import annotations

import argparse
import logging
import os
import select
import time
from pathlib import Path
from typing import NamedTuple

from umbel import Umbel
from umbel.executors import packets
from umbel.executors.board import Board
from umbel.executors.channel import open_channel
from umbel.executors.lanes.prefork import PreforkLanes
from umbel.executors.nursery import Exited, Nursery
from umbel.message import Message
from umbel.worker.sources import open_source

_WARM_UP = 20
_TICK = 1 / os.sysconf("SC_CLK_TCK")


class Cost(NamedTuple):
    """So far; seconds and page faults."""

    executors: float
    executor_faults: int
    nursery: float
    nursery_faults: int


def cost_of(pid: int) -> Cost:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(") ")[2].split()
    own_faults, faults = int(fields[7]), int(fields[8])
    user, system, ended_user, ended_system = (int(each) * _TICK for each in fields[11:15])
    return Cost(ended_user + ended_system, faults, user + system, own_faults)


def application(tasks: int) -> tuple[Umbel, Message]:
    """An application, and a message for its only task. Nothing connects to its server."""
    app = Umbel("life", broker="redis://127.0.0.1:1/0", backend="redis://127.0.0.1:1/0")
    app.conf.worker_max_tasks_per_child = tasks
    made: list[Message] = []
    app.publish = lambda messages, timeout=None: made.extend(messages)  # type: ignore[method-assign]

    @app.task
    def echo(text: str) -> str:
        return text

    app.finalize()
    echo.delay("x")
    return app, made[0]


def live(nursery: Nursery, work: list[bytes]) -> None:
    channel = open_channel()
    for packet in work:
        assert channel.send(packet)
    nursery.spawn(0, channel.executor_fd())
    ended = False
    while not ended:
        select.select([nursery], [], [])
        ended = any(isinstance(each, Exited) for each in nursery.news())
    assert len(channel.receive(len(work) + 2)) == len(work) + 1  # each report, and why it ended
    channel.close()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--lives", type=int, default=300)
    parser.add_argument("--tasks", type=int, default=100)
    options = parser.parse_args()
    logging.basicConfig(level="ERROR")
    app, message = application(options.tasks)
    board = Board(2)
    board.lease_end = time.monotonic() + 3600
    nursery = open_source(PreforkLanes, app, board, 1, "life@localhost")
    assert isinstance(nursery, Nursery)
    work = [packets.encode_task(number + 1, message, 0) for number in range(options.tasks)]
    for _ in range(_WARM_UP):
        live(nursery, work)
    before = cost_of(nursery.pid)
    for _ in range(options.lives):
        live(nursery, work)
    spent = [(after - first) / options.lives for first, after in zip(before, cost_of(nursery.pid), strict=True)]
    nursery.close()
    print(f"executor {1e3 * spent[0]:.2f} ms, {spent[1]:.0f} page faults; ", end="")
    print(f"nursery {1e3 * spent[2]:.2f} ms, {spent[3]:.0f} page faults")


if __name__ == "__main__":
    main()
