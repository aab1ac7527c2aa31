"""How large a worker is: processes × lanes."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, NamedTuple

from umbel.errors import ConfigurationError

if TYPE_CHECKING:
    from umbel.autoscaling import Bounds
    from umbel.config import Settings
    from umbel.executors.lanes.base import Lanes


class Size(NamedTuple):
    """``processes`` executors with ``lanes`` each: so many tasks run at a time."""

    processes: int
    lanes: int

    def __str__(self) -> str:
        total = self.processes * self.lanes
        return f"{total}" if 1 in self else f"{total} = {self.processes} processes x {self.lanes} lanes"

    def part(self, tasks: int) -> Size:
        """How so many tasks at a time are run in a pool that can grow to this size: by whole processes where it has
        several, else by opening so many of the lanes of the one."""
        if self.processes > 1:
            return Size(-(-tasks // self.lanes), self.lanes)
        return Size(1, tasks)


def size_of(
    kind: type[Lanes], conf: Settings, concurrency: int | None, processes: int | None, bounds: Bounds | None = None
) -> Size:
    """The size that was asked for, by arguments before settings; the largest one where it has ``bounds``.

    Raises ConfigurationError for numbers below 1, and for those that contradict each other or the kind of lanes.
    """
    processors = os.cpu_count() or 1
    for name, value in (("concurrency", concurrency), ("processes", processes)):
        if value is not None and value < 1:
            raise ConfigurationError(f"the {name} of a worker must be at least 1, not {value}")
    concurrency = concurrency if concurrency is not None else conf.worker_concurrency
    processes = processes if processes is not None else conf.worker_processes
    if bounds is not None:
        return _largest(kind, bounds.maximum, concurrency, processes)
    if kind.in_supervisor:
        if (processes or 1) > 1 or (concurrency or 1) > 1:
            raise ConfigurationError(f"the pool {kind.name} runs one task at a time in the process of the worker")
        return Size(1, 1)
    if kind.single:
        if processes is not None and concurrency is not None and processes != concurrency:
            raise ConfigurationError(
                f"the pool {kind.name} has one lane in each process: "
                f"--concurrency {concurrency} and --processes {processes} contradict each other"
            )
        return Size(concurrency or processes or processors, 1)
    return Size(processes or 1, concurrency or kind.default_count or processors)


def _largest(kind: type[Lanes], tasks: int, concurrency: int | None, processes: int | None) -> Size:
    if kind.in_supervisor:
        raise ConfigurationError(f"the pool {kind.name} runs one task at a time, so --autoscale has nothing to scale")
    if kind.single:
        return Size(tasks, 1)
    lanes = min(concurrency, tasks) if concurrency is not None else -(-tasks // (processes or 1))
    return Size(-(-tasks // lanes), lanes)
