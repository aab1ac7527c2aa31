"""Lanes that are threads of one process: each runs the very loop of a prefork executor, on one channel."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from queue import SimpleQueue

from umbel.executors.channel import ExecutorEnd, SharedEnd
from umbel.executors.executor import Executor
from umbel.executors.interrupts import BellThread, SoftLimitThread, WatchedThreadGuard, open_bell_end
from umbel.executors.lanes.base import Lanes
from umbel.guarding import Guard
from umbel.loops import close_loop


class ThreadLanes(Lanes):
    """One thread a lane, each taking packets from the same channel: for tasks that wait, and for extension modules
    that release the GIL. Every thread has an event loop of its own for async tasks, as long as it lives."""

    name = "threads"
    interruptible = True

    def run(self) -> None:
        end = SharedEnd(self.end())
        ended: SimpleQueue[BaseException | None] = SimpleQueue()
        for index, guard in enumerate(self.guards()):
            lane = self.station.lane(index, end, guard)
            threading.Thread(target=_run, args=(lane, ended), name=f"umbel-lane-{index}", daemon=True).start()
        for _ in range(self.station.count):
            error = ended.get()
            if error is not None:
                raise error
            end.finish()

    def guards(self) -> Sequence[Guard]:
        """One for each lane, listening to the bell."""
        watch = SoftLimitThread()
        guards = [WatchedThreadGuard(watch) for _ in range(self.station.count)]
        BellThread(open_bell_end(self.station.bell), guards).start()
        return guards

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
