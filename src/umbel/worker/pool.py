"""The executors of a worker: started from the nursery, watched, replaced, stopped."""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import socket
import time
from collections import deque
from typing import TYPE_CHECKING, Protocol

from umbel.executors import interrupts, packets
from umbel.executors.channel import SupervisorEnd, open_channel
from umbel.executors.nursery import Exited, NurseryLost, Spawned
from umbel.worker.job import Job

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from umbel.executors.board import Board

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
    channel is not to be read any more. ``allowance``: how many packets more it may be sent in its life. ``bell``: where
    it is told to end single tasks, if it listens. ``ending``: it is killed for one of its tasks, for which the others
    are not to blame.
    """

    __slots__ = (
        "allowance",
        "bell",
        "channel",
        "ending",
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

    def __init__(self, slot: int, channel: SupervisorEnd, lanes: int = 1, bell: socket.socket | None = None) -> None:
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
        self.bell = bell
        self.ending = False

    def running(self, board: Board) -> Iterator[tuple[int, float]]:
        """Numbers of the tasks that its lanes run, and since when."""
        for slot in range(self.slot * self.lanes, (self.slot + 1) * self.lanes):
            number, since = board.running(slot)
            if number:
                yield number, since

    def is_running(self, board: Board, number: int) -> bool:
        return any(each == number for each, _ in self.running(board))

    def ring(self, number: int) -> None:
        """Ask it to end this task."""
        if self.bell is not None:
            interrupts.ring(self.bell, number)

    def close(self) -> None:
        self.channel.close()
        if self.bell is not None:
            self.bell.close()


class ProcessSource(Protocol):
    """Where executors come from: a nursery, or what stands for it. Their news are to be had from ``fileno`` on."""

    def fileno(self) -> int: ...

    def spawn(self, slot: int, *fds: int) -> None: ...

    def news(self) -> list[Spawned | Exited]: ...

    def kill(self, pid: int, number: int = signal.SIGKILL) -> None: ...

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
        *,
        interruptible: bool = False,
    ) -> None:
        """``interruptible``: executors end single tasks when they are told to."""
        self.nursery = nursery
        self.size = size
        self.lanes = lanes
        self.open = open_lanes or lanes
        self.owner = owner
        self.interruptible = interruptible
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
        """Start as many executors as are missing, as far as there are places. Loop thread.

        For one that has got all that it may be sent in its life a successor is started beforehand, as a spare: it is
        given nothing until the other reads no more. Spares beyond that end.
        """
        if self._stopping:
            return
        working, spares = self._working()
        missing = max(0, self.size - len(working) - len(self._respawns))
        for spare in spares[:missing]:
            self.owner.open_lanes(spare, self.open)
        free = [slot for slot in self._places if slot not in self.executors]
        started = max(0, missing - len(spares))
        unused = max(0, len(spares) - missing)
        wanted = sum(executor.allowance <= 0 for executor in working) - unused
        for spare in spares[len(spares) + min(0, wanted) :]:
            self.owner.retire(spare)
        for at, slot in enumerate(free[: started + max(0, wanted)]):
            if not self._spawn(slot, self.open if at < started else 0):
                return

    def _working(self) -> tuple[list[ExecutorHandle], list[ExecutorHandle]]:
        """Executors that are given tasks, and spares."""
        alive = [executor for executor in self.executors.values() if not executor.stopping]
        return [each for each in alive if each.open], [each for each in alive if not each.open]

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
        working = sorted(self._working()[0], key=_idlest_last)
        for executor in working[size:]:
            self.owner.retire(executor)
        for executor in working[:size]:
            self.owner.open_lanes(executor, lanes)
        self.fill()
        return True

    def _spawn(self, slot: int, lanes: int) -> bool:
        """``lanes``: how many it is given tasks for, at once; 0 for a spare."""
        channel = open_channel()
        bell, theirs = interrupts.open_bell() if self.interruptible else (None, None)
        executor = ExecutorHandle(slot, channel, self.lanes, bell)
        executor.open = lanes
        try:
            self.nursery.spawn(slot, channel.executor_fd(), *([theirs.fileno()] if theirs is not None else []))
        except NurseryLost:
            executor.close()
            self._on_nursery_lost()
            return False
        finally:
            if theirs is not None:
                theirs.close()
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
        executor.close()
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
            executor.close()
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
