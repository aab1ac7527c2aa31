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
from umbel.executors.nursery import Nursery, NurseryLost, Spawned
from umbel.worker.job import Job

if TYPE_CHECKING:
    from collections.abc import Iterable

logger = logging.getLogger("umbel.worker.pool")

RECENT = 30.0
"""Seconds for which an executor that died before it began any task delays the start of others."""

UNLIMITED = 1 << 62


class ExecutorHandle:
    """The supervisor's view of one executor process.

    ``jobs``: by number, what was sent to it and is not yet reported, oldest first. ``load``: their estimated seconds.
    ``worked``: it has begun a task. ``exited``: it is gone, and its channel is not to be read any more. ``allowance``:
    how many packets more it may be sent in its life. ``retired``: why it reads no more and exits by itself.
    """

    __slots__ = ("allowance", "channel", "exited", "jobs", "load", "pid", "retired", "slot", "stopping", "worked")

    def __init__(self, slot: int, channel: SupervisorEnd) -> None:
        self.slot = slot
        self.channel = channel
        self.pid = 0
        self.jobs: dict[int, Job] = {}
        self.load = 0.0
        self.worked = False
        self.stopping = False
        self.exited = False
        self.allowance = UNLIMITED
        self.retired = ""


class PoolOwner(Protocol):
    """What the pool calls, in the event loop."""

    def on_executor_exit(self, executor: ExecutorHandle, status: int) -> None: ...

    def on_executor_started(self, executor: ExecutorHandle) -> None: ...

    def on_nursery_lost(self) -> None: ...


class Pool:
    """Keeps ``size`` executors running until it is stopped. Beside them there may be some that have retired: their
    successors work already, and they are about to exit."""

    def __init__(self, nursery: Nursery, size: int, owner: PoolOwner) -> None:
        self.nursery = nursery
        self.size = size
        self.owner = owner
        self.executors: dict[int, ExecutorHandle] = {}
        self._by_pid: dict[int, ExecutorHandle] = {}
        self._retired: set[ExecutorHandle] = set()
        self._idle_deaths: deque[float] = deque(maxlen=10)
        self._respawns: dict[int, asyncio.TimerHandle] = {}
        self._stopping = False
        self._empty = asyncio.Event()
        self._loop = asyncio.get_running_loop()

    def start(self) -> None:
        self._loop.add_reader(self.nursery.fileno(), self._on_news)
        for slot in range(self.size):
            self._spawn(slot)

    def _spawn(self, slot: int) -> None:
        channel = open_channel()
        executor = ExecutorHandle(slot, channel)
        try:
            self.nursery.spawn(slot, channel.executor_fd())
        except NurseryLost:
            channel.close()
            self._on_nursery_lost()
            return
        self.executors[slot] = executor
        self.owner.on_executor_started(executor)

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
                if executor.retired:
                    self.replace(executor)
            elif executor := self._by_pid.pop(item.pid, None):
                self._on_exit(executor, item.status)

    def replace(self, executor: ExecutorHandle) -> None:
        """Start the successor of one that has retired, while that is still on its way out."""
        if executor.pid and self.executors.get(executor.slot) is executor and not self._stopping:
            self._retired.add(executor)
            self._succeed(executor)

    def _succeed(self, executor: ExecutorHandle) -> None:
        data = {"slot": executor.slot}
        logger.info("executor %d is replaced: %s", executor.pid, executor.retired, extra={"data": data})
        self._spawn(executor.slot)

    def _on_exit(self, executor: ExecutorHandle, status: int) -> None:
        replaced = executor in self._retired
        if replaced:
            self._retired.remove(executor)
        else:
            del self.executors[executor.slot]
        self.owner.on_executor_exit(executor, status)
        executor.channel.close()
        if self._stopping:
            if not self.executors and not self._retired:
                self._empty.set()
        elif executor.retired and not replaced:
            self._succeed(executor)
        elif not replaced:
            delay = self._respawn_delay(executor)
            if delay:
                logger.warning("executors die as soon as they start; the next one starts in %.1f s", delay)
            self._respawns[executor.slot] = self._loop.call_later(delay, self._respawn, executor.slot)

    def _respawn(self, slot: int) -> None:
        del self._respawns[slot]
        if not self._stopping:
            self._spawn(slot)

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
        for timer in self._respawns.values():
            timer.cancel()
        if not self.executors and not self._retired:
            self._empty.set()
        for executor in self.executors.values():
            executor.stopping = True
            executor.channel.send(packets.encode_stop())

    def kill(self, executors: Iterable[ExecutorHandle] | None = None) -> None:
        """End executors (all) at once; their exits are reported as always."""
        for executor in list(executors if executors is not None else [*self.executors.values(), *self._retired]):
            if executor.pid:
                try:
                    os.kill(executor.pid, signal.SIGKILL)
                except ProcessLookupError:
                    logger.debug("executor %d has gone already", executor.pid)

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
        for executor in (*self.executors.values(), *self._retired):
            executor.channel.close()
        self.nursery.close()
        self.executors.clear()
        self._retired.clear()


def describe_exit(status: int) -> str:
    """In words, how a process ended: ``status`` is that of ``waitpid(2)``."""
    if os.WIFSIGNALED(status):
        number = os.WTERMSIG(status)
        try:
            return f"killed by signal {number} ({signal.Signals(number).name})"
        except ValueError:
            return f"killed by signal {number}"
    return f"exited with code {os.waitstatus_to_exitcode(status)}"
