"""The executors of a worker: started from the nursery, watched, replaced, stopped."""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import time
from collections import deque
from typing import TYPE_CHECKING, Protocol

from umbel.executors import packets
from umbel.executors.channel import SupervisorEnd, open_channel
from umbel.executors.nursery import Exited, NurseryLost, Spawned
from umbel.worker.job import Job

if TYPE_CHECKING:
    from collections.abc import Iterable

logger = logging.getLogger("umbel.worker.pool")

RECENT = 30.0
"""Seconds for which an executor that died before it began any task delays the start of others."""

UNLIMITED = 1 << 62


class ExecutorHandle:
    """The supervisor's view of one executor process.

    ``lanes``: how many tasks it can run at a time; ``open``: how many it is given. ``jobs``: by number, what was sent
    to it and is not yet reported, oldest first. ``load``: their estimated seconds. ``suspect``: number of the job
    that was sent to it although it may bring it down. ``worked``: it has begun a task. ``stopping``: it reads no more,
    and exits when what it runs has ended; ``retired``: why it has decided so by itself. ``exited``: it is gone, and its
    channel is not to be read any more. ``allowance``: how many packets more it may be sent in its life.
    """

    __slots__ = (
        "allowance",
        "channel",
        "exited",
        "jobs",
        "lanes",
        "load",
        "open",
        "pid",
        "retired",
        "slot",
        "stopping",
        "suspect",
        "worked",
    )

    def __init__(self, slot: int, channel: SupervisorEnd, lanes: int = 1) -> None:
        self.slot = slot
        self.lanes = lanes
        self.open = lanes
        self.channel = channel
        self.pid = 0
        self.jobs: dict[int, Job] = {}
        self.load = 0.0
        self.suspect = 0
        self.worked = False
        self.stopping = False
        self.exited = False
        self.allowance = UNLIMITED
        self.retired = ""


class ProcessSource(Protocol):
    """Where executors come from: a nursery, or what stands for it. Their news are to be had from ``fileno`` on."""

    def fileno(self) -> int: ...

    def spawn(self, slot: int, fd: int) -> None: ...

    def news(self) -> list[Spawned | Exited]: ...

    def kill(self, pid: int) -> None: ...

    def close(self) -> None: ...


class PoolOwner(Protocol):
    """What the pool calls, in the event loop."""

    def on_executor_exit(self, executor: ExecutorHandle, status: int) -> None: ...

    def on_executor_started(self, executor: ExecutorHandle) -> None: ...

    def on_nursery_lost(self) -> None: ...

    def retire(self, executor: ExecutorHandle) -> None:
        """Have it end what it runs and exit; what it has not read goes to others."""
        ...

    def open_lanes(self, executor: ExecutorHandle, lanes: int) -> None:
        """Give it so many tasks at a time from now on."""
        ...


class Pool:
    """Keeps ``size`` executors at work until it is stopped, each with ``lanes`` of which ``open`` are used.

    Beside them there may be some that are stopping, while their successors work already: in all as many as there are
    ``places``, by default twice ``size``. Each executor has a place of its own, its slot.
    """

    def __init__(
        self,
        nursery: ProcessSource,
        size: int,
        owner: PoolOwner,
        lanes: int = 1,
        places: int | None = None,
        open_lanes: int | None = None,
    ) -> None:
        self.nursery = nursery
        self.size = size
        self.lanes = lanes
        self.open = open_lanes or lanes
        self.owner = owner
        self.executors: dict[int, ExecutorHandle] = {}
        self._places = range(places or 2 * size)
        self._by_pid: dict[int, ExecutorHandle] = {}
        self._idle_deaths: deque[float] = deque(maxlen=10)
        self._respawns: set[asyncio.TimerHandle] = set()
        self._stopping = False
        self._empty = asyncio.Event()
        self._loop = asyncio.get_running_loop()

    def start(self) -> None:
        self._loop.add_reader(self.nursery.fileno(), self._on_news)
        self.fill()

    def fill(self) -> None:
        """Start as many executors as are missing, as far as there are places. Loop thread."""
        if self._stopping:
            return
        working = sum(not executor.stopping for executor in self.executors.values())
        missing = self.size - working - len(self._respawns)
        free = [slot for slot in self._places if slot not in self.executors]
        for slot in free[: max(0, missing)]:
            if not self._spawn(slot):
                return

    @property
    def capacity(self) -> int:
        """Tasks at a time."""
        return self.size * self.open

    def resize(self, size: int, lanes: int) -> bool:
        """Have ``size`` executors with ``lanes`` open in each; whether that is a change. Loop thread.

        New ones are started at once. Those that are too many read no more and end what they run, the idlest first.
        """
        if (size, lanes) == (self.size, self.open):
            return False
        self.size, self.open = size, lanes
        working = sorted((each for each in self.executors.values() if not each.stopping), key=_idlest_last)
        for executor in working[size:]:
            self.owner.retire(executor)
        for executor in working[:size]:
            self.owner.open_lanes(executor, lanes)
        self.fill()
        return True

    def _spawn(self, slot: int) -> bool:
        channel = open_channel()
        executor = ExecutorHandle(slot, channel, self.lanes)
        executor.open = self.open
        try:
            self.nursery.spawn(slot, channel.executor_fd())
        except NurseryLost:
            channel.close()
            self._on_nursery_lost()
            return False
        self.executors[slot] = executor
        self.owner.on_executor_started(executor)
        return True

    def _on_news(self) -> None:
        try:
            news = self.nursery.news()
        except NurseryLost:
            self._on_nursery_lost()
            return
        for item in news:
            if isinstance(item, Spawned):
                executor = self.executors[item.slot]
                executor.pid = item.pid
                self._by_pid[item.pid] = executor
            elif executor := self._by_pid.pop(item.pid, None):
                self._on_exit(executor, item.status)

    def _on_exit(self, executor: ExecutorHandle, status: int) -> None:
        del self.executors[executor.slot]
        self.owner.on_executor_exit(executor, status)
        executor.channel.close()
        if executor.retired:
            logger.info("executor %d was replaced: %s", executor.pid, executor.retired)
        if self._stopping:
            if not self.executors:
                self._empty.set()
        elif not executor.stopping and (delay := self._respawn_delay(executor)):
            logger.warning("executors die as soon as they start; the next one starts in %.1f s", delay)
            self._respawn_later(delay)
        else:
            self.fill()

    def _respawn_later(self, delay: float) -> None:
        def respawn() -> None:
            self._respawns.discard(timer)
            self.fill()

        timer = self._loop.call_later(delay, respawn)
        self._respawns.add(timer)

    def _respawn_delay(self, executor: ExecutorHandle) -> float:
        """Seconds to wait: none after the death of one that worked, which its task brought about."""
        if executor.worked:
            self._idle_deaths.clear()
            return 0.0
        now = time.monotonic()
        self._idle_deaths.append(now)
        recent = sum(now - moment < RECENT for moment in self._idle_deaths)
        return 0.0 if recent <= 3 else min(5.0, 0.1 * 2 ** (recent - 3))

    def _on_nursery_lost(self) -> None:
        """The executors end with it, and nobody is left to tell of their exits."""
        self._loop.remove_reader(self.nursery.fileno())
        self.kill()
        self._empty.set()
        if not self._stopping:
            self.owner.on_nursery_lost()

    # -- stopping --

    def stop(self) -> None:
        """Ask every executor to exit once it has done what it has read."""
        self._stopping = True
        for timer in self._respawns:
            timer.cancel()
        if not self.executors:
            self._empty.set()
        for executor in self.executors.values():
            executor.stopping = True
            executor.channel.send(packets.encode_stop())

    def kill(self, executors: Iterable[ExecutorHandle] | None = None) -> None:
        """End executors (all) at once; their exits are reported as always."""
        for executor in list(executors if executors is not None else self.executors.values()):
            if executor.pid:
                self.nursery.kill(executor.pid)

    async def wait_stopped(self, timeout: float) -> bool:
        """True when all have exited within ``timeout`` seconds."""
        try:
            await asyncio.wait_for(self._empty.wait(), timeout)
        except TimeoutError:
            return False
        return True

    def close(self) -> None:
        self._stopping = True
        self._loop.remove_reader(self.nursery.fileno())
        for executor in self.executors.values():
            executor.channel.close()
        self.nursery.close()
        self.executors.clear()


def _idlest_last(executor: ExecutorHandle) -> tuple[int, float]:
    return -len(executor.jobs), -executor.load


def describe_exit(status: int) -> str:
    """In words, how a process ended: ``status`` is that of ``waitpid(2)``."""
    if os.WIFSIGNALED(status):
        number = os.WTERMSIG(status)
        try:
            return f"killed by signal {number} ({signal.Signals(number).name})"
        except ValueError:
            return f"killed by signal {number}"
    return f"exited with code {os.waitstatus_to_exitcode(status)}"
