"""One lane a process: ``prefork``, and ``solo`` in the process of the supervisor."""

from __future__ import annotations

from umbel.executors.interrupts import BellThread, SoftLimitThread, WatchedThreadGuard, open_bell_end
from umbel.executors.lanes.base import Lanes
from umbel.loops import close_loop


class PreforkLanes(Lanes):
    """One task at a time in each process. A crash, a leak or a blocked call touches no other task."""

    name = "prefork"
    single = True

    def run(self) -> None:
        try:
            self.station.lane(0, self.station.end).run()
        finally:
            close_loop()


class SoloLanes(PreforkLanes):
    """One task at a time in a thread of the supervisor, for debugging. A task that blocks the interpreter, or crashes
    it, does so to the whole worker."""

    name = "solo"
    in_supervisor = True
    interruptible = True

    def run(self) -> None:
        watch = SoftLimitThread()
        guard = WatchedThreadGuard(watch)
        BellThread(open_bell_end(self.station.bell), [guard]).start()
        try:
            self.station.lane(0, self.station.end, guard).run()
        finally:
            watch.close()
            close_loop()
