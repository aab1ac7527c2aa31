"""When an executor has done enough: after so many tasks, or above so much memory.

It is asked before the next packet is read. From then on nothing is read any more, so that what has come already is
taken back and nothing is lost; what runs in other lanes goes on to its end.
"""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING, NamedTuple

from umbel.executors import packets
from umbel.executors.channel import ExecutorEnd, PacketEnd, PollableEnd

if TYPE_CHECKING:
    from umbel.app import Umbel

_STATM = "/proc/self/statm"


class Life(NamedTuple):
    """How long executors live. ``tasks``: read at most; ``memory``: resident memory in KiB, looked at after each
    task; None: no bound."""

    tasks: int | None
    memory: int | None


class Recycling:
    """Counts what one executor reads. Made in that executor, where ``/proc/self`` is its own."""

    def __init__(self, most: Life) -> None:
        self.most_tasks = most.tasks or 1 << 62
        self.most_memory = most.memory
        self.read = 0

    def due(self) -> str:
        """Why the executor is to be replaced; empty while it is not."""
        read = self.read
        if read >= self.most_tasks:
            return f"it has run {read} task{'' if read == 1 else 's'}"
        if self.most_memory and read and (memory := resident_memory()) > self.most_memory:
            return f"it uses {memory:,} KiB, more than {self.most_memory:,}"
        return ""


def life_of(app: Umbel) -> Life | None:
    """What the settings say; None when they set no bound."""
    tasks, memory = app.conf.worker_max_tasks_per_child, app.conf.worker_max_memory_per_child
    return Life(tasks, memory) if tasks or memory else None


def recycling_end(end: ExecutorEnd, life: Life) -> ExecutorEnd:
    """What stands before ``end`` where the life of an executor is bounded."""
    recycling = Recycling(life)
    return RecyclingPollableEnd(end, recycling) if isinstance(end, PacketEnd) else RecyclingEnd(end, recycling)


class RecyclingEnd:
    """An executor's end that ends, as if the supervisor had gone, when enough was read; the supervisor is told."""

    def __init__(self, end: ExecutorEnd, recycling: Recycling) -> None:
        self._end = end
        self._recycling = recycling
        self._ended = False

    def send(self, packet: bytes) -> None:
        self._end.send(packet)

    def receive(self) -> bytes | None:
        return self._counted(None if self._over() else self._end.receive())

    def finish(self) -> None:
        self._end.finish()

    def _over(self) -> bool:
        if not self._ended and (enough := self._recycling.due()):
            self._ended = True
            self._end.send(packets.encode_retiring(enough))
        return self._ended

    def _counted(self, packet: bytes | None) -> bytes | None:
        self._recycling.read += packet is not None
        return packet


class RecyclingPollableEnd(RecyclingEnd):
    """The same for an end that is waited for by other means."""

    def __init__(self, end: PollableEnd, recycling: Recycling) -> None:
        super().__init__(end, recycling)
        self._pollable = end

    def fileno(self) -> int:
        return self._pollable.fileno()

    def send_now(self, packet: bytes) -> None:
        self._pollable.send_now(packet)

    def receive_now(self) -> bytes | None:
        return self._counted(None if self._over() else self._pollable.receive_now())


def resident_memory() -> int:
    """Resident memory of this process in KiB."""
    if sys.platform.startswith("linux"):
        with open(_STATM, "rb", buffering=0) as file:
            pages = int(file.read().split()[1])
        return pages * os.sysconf("SC_PAGESIZE") // 1024
    import psutil

    return psutil.Process().memory_info().rss // 1024
