"""When an executor has done enough: after so many tasks, or above so much memory.

The executor asks before it reads the next packet, so what it has not read is taken back and nothing is lost.
"""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from umbel.app import Umbel

_STATM = "/proc/self/statm"


class Recycling:
    """Counts what one executor reads. Made in that executor, where ``/proc/self`` is its own."""

    def __init__(self, most_tasks: int | None, most_memory: int | None) -> None:
        """``most_tasks``: read at most; ``most_memory``: resident memory in KiB, looked at after each task."""
        self.most_tasks = most_tasks or 1 << 62
        self.most_memory = most_memory
        self.read = 0

    def due(self) -> str:
        """To be called once before each read: why the executor is to be replaced; empty while it is not."""
        read = self.read
        if read >= self.most_tasks:
            return f"it has run {read} task{'' if read == 1 else 's'}"
        if self.most_memory and read and (memory := resident_memory()) > self.most_memory:
            return f"it uses {memory:,} KiB, more than {self.most_memory:,}"
        self.read = read + 1
        return ""


def recycling_of(app: Umbel) -> Recycling | None:
    """As the settings say; None when executors live for ever."""
    conf = app.conf
    tasks, memory = conf.worker_max_tasks_per_child, conf.worker_max_memory_per_child
    return Recycling(tasks, memory) if tasks or memory else None


def resident_memory() -> int:
    """Resident memory of this process in KiB."""
    if sys.platform.startswith("linux"):
        with open(_STATM, "rb", buffering=0) as file:
            pages = int(file.read().split()[1])
        return pages * os.sysconf("SC_PAGESIZE") // 1024
    import psutil

    return psutil.Process().memory_info().rss // 1024
