"""Lanes that are threads of one process: each runs the very loop of a prefork executor, on one channel."""

from __future__ import annotations

import threading
from queue import SimpleQueue

from umbel.executors.channel import ExecutorEnd, SharedEnd
from umbel.executors.executor import Executor
from umbel.executors.lanes.base import Lanes
from umbel.loops import close_loop


class ThreadLanes(Lanes):
    """One thread a lane, each taking packets from the same channel: for tasks that wait, and for extension modules
    that release the GIL. Every thread has an event loop of its own for async tasks, as long as it lives."""

    name = "threads"

    def run(self) -> None:
        end = SharedEnd(self.end())
        ended: SimpleQueue[BaseException | None] = SimpleQueue()
        for index in range(self.station.count):
            lane = self.station.lane(index, end)
            threading.Thread(target=_run, args=(lane, ended), name=f"umbel-lane-{index}", daemon=True).start()
        for _ in range(self.station.count):
            error = ended.get()
            if error is not None:
                raise error
            end.finish()

    def end(self) -> ExecutorEnd:
        """The channel's end that the lanes share."""
        return self.station.end


def _run(lane: Executor, ended: SimpleQueue[BaseException | None]) -> None:
    try:
        lane.run()
    except BaseException as error:
        ended.put(error)
    else:
        ended.put(None)
    finally:
        close_loop()
