"""Lanes that are coroutines of one event loop: ``asyncio``.

The loop lives as long as the executor. Async tasks are awaited in it, each in an ``asyncio.Task`` of its own; other
tasks run in threads, of which there are as many as lanes. A packet is read only when a lane is free.
"""

from __future__ import annotations

import asyncio
import contextvars
import logging
import os
import socket
from collections.abc import Awaitable, Callable, Coroutine
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import TYPE_CHECKING, Any, TypeVar

from umbel.execution import execute_message_async
from umbel.executors import packets
from umbel.executors.channel import PollableEnd
from umbel.executors.executor import LEASE_POLL, forks_behind, report_of
from umbel.executors.interrupts import ThreadGuard, heard, open_bell_end
from umbel.executors.lanes.base import Lanes, Station
from umbel.executors.lanes.blocking import BlockingWatch
from umbel.executors.lanes.fineness import new_loop
from umbel.guarding import TaskEnded
from umbel.loops import use_loop_of

if TYPE_CHECKING:
    from umbel.backends.base import Result
    from umbel.message import Message

logger = logging.getLogger("umbel.executor")

T = TypeVar("T")

BUNDLE_SIZE = 32 * 1024
"""Bytes of the packets that go to the supervisor in one."""


class LoopGuard(ThreadGuard):
    """Of a lane of the loop: its coroutines are cancelled, what it hands to a thread is interrupted there."""

    _timer: asyncio.TimerHandle | None = None

    def begin(self, number: int, soft: float | None) -> None:
        """Without a lock: who may ask for the end of a task does so in the loop, as this does."""
        self.soft, self.ended, self.number, self._due = soft, False, number, None
        if soft is not None:
            self._timer = asyncio.get_running_loop().call_later(soft, self.on_soft_limit, number)

    def awaitable(self, coroutine: Coroutine[Any, Any, Any]) -> Awaitable[Any]:
        """In the task of the lane, from whose end to ``finish`` nothing else runs in the loop."""
        if self.soft is not None:
            return self.limited(coroutine)
        task = asyncio.current_task()
        self._cancel = task.cancel if task is not None else None
        return coroutine

    def finish(self) -> None:
        self.number, self._cancel = 0, None
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None


class AsyncioLanes(Lanes):
    """One coroutine a lane, for tasks that wait for the network. A task that blocks the loop is named in the log."""

    name = "asyncio"
    default_count = 100
    needs_packets = True
    interruptible = True

    def __init__(self, station: Station) -> None:
        super().__init__(station)
        assert isinstance(station.end, PollableEnd)
        self._end = station.end
        self._free = list(range(station.first + station.count - 1, station.first - 1, -1))
        self._guards = {slot: LoopGuard() for slot in self._free}
        self._running: dict[asyncio.Task[None], int] = {}
        self._messages: dict[int, Message] = {}
        self._numbers: dict[int, int] = {}
        self._unsent: list[bytes] = []
        self._writing = False
        self._listening = False
        self._stopping = False
        self._forks = forks_behind()

    def run(self) -> None:
        with asyncio.Runner(loop_factory=new_loop) as runner:
            runner.run(self._main())

    async def _main(self) -> None:
        station = self.station
        self._loop = loop = asyncio.get_running_loop()
        self._over: asyncio.Future[None] = loop.create_future()
        self._context = contextvars.copy_context()
        use_loop_of(self._run_from_thread)
        watch = BlockingWatch(loop, station.app.conf.worker_blocking_threshold, self._running, self._message_of)
        bell = open_bell_end(station.bell)
        with ThreadPoolExecutor(station.count, "umbel-lane") as self._threads, watch, bell:
            loop.add_reader(bell, self._on_bell, bell)
            self._take()
            await self._over
            loop.remove_reader(bell)

    # -- coming in --

    def _take(self) -> None:
        """Begin what has arrived, as long as lanes are free; when they are and nothing has come, wait for it."""
        while self._free and not self._stopping:
            try:
                packet = self._end.receive_now()
            except BlockingIOError:
                self._listen(True)
                return
            if packet is None or packets.kind_of(packet) != packets.TASK:
                self._stopping = True
            else:
                self._begin(packets.number_of(packet), packet)
        self._listen(False)
        self._end_if_done()

    def _listen(self, on: bool) -> None:
        if on is not self._listening:
            self._listening = on
            if on:
                self._context.copy().run(self._loop.add_reader, self._end.fileno(), self._take)
            else:
                self._loop.remove_reader(self._end.fileno())

    def _begin(self, number: int, packet: bytes) -> None:
        slot = self._free.pop()
        self._numbers[slot] = number
        task = self._loop.create_task(self._run(slot, number, packet), context=self._context.copy())
        self._running[task] = slot
        task.add_done_callback(self._on_broken_off, context=self._context)

    async def _run(self, slot: int, number: int, packet: bytes) -> None:
        board = self.station.board
        if not board.lease_is_good() and not await self._await_lease():
            self._leave(slot, packets.encode_refused(number))
            return
        assignment = packets.decode_task(packet)
        message = self._messages[slot] = assignment.message
        guard = self._guards[slot]
        guard.begin(number, assignment.soft)
        board.begin(slot, number)
        try:
            outcome = await execute_message_async(
                self.station.app,
                message,
                hostname=self.station.hostname,
                redelivered=message.redelivered or assignment.deliveries > 0,
                deliveries=assignment.deliveries,
                report=partial(self._report, number),
                in_thread=self._in_thread,
                guard=guard,
            )
        except TaskEnded:
            outcome = None
        if forks_behind() != self._forks:
            os._exit(0)  # a child that the task forked came back from it: it is no executor
        guard.finish()
        report = report_of(number, outcome)
        board.end(slot)
        self._leave(slot, report)

    def _leave(self, slot: int, report: bytes) -> None:
        """The last that the task of a lane does: the next one begins in the next round of the loop, instead of after
        the one in which it would be seen that this one is done."""
        task = asyncio.current_task()
        assert task is not None
        del self._running[task]
        self._clear(slot, report)
        task.remove_done_callback(self._on_broken_off)

    def _clear(self, slot: int, report: bytes) -> None:
        self._send(report)
        self._free.append(slot)
        if not self._stopping and not self._listening:
            self._take()

    def _on_broken_off(self, task: asyncio.Task[None]) -> None:
        """A task of a lane is done and has not left it: it was cancelled by another one before it ran, or the lane has
        failed."""
        if not task.cancelled():
            logger.critical("a lane failed, its process ends", exc_info=task.exception())
            os._exit(1)
        slot = self._running.pop(task)
        self._clear(slot, packets.encode_refused(self._numbers[slot]))

    def _on_bell(self, bell: socket.socket) -> None:
        number = heard(bell.recv(16))
        if not number:
            self._loop.remove_reader(bell)
        for guard in self._guards.values():
            guard.end(number)

    def _end_if_done(self) -> None:
        if self._stopping and not self._running and not self._unsent and not self._over.done():
            self._over.set_result(None)

    async def _await_lease(self) -> bool:
        """Wait while the lease is in doubt; whether it is still the one under which the packet in hand was sent."""
        board = self.station.board
        number = board.lease_number
        while not board.lease_is_good():
            await asyncio.sleep(LEASE_POLL)
        return board.lease_number == number

    def _message_of(self, task: asyncio.Task[Any]) -> Message | None:
        slot = self._running.get(task)
        return self._messages.get(slot) if slot is not None else None

    # -- threads --

    async def _in_thread(self, call: Callable[[], T]) -> T:
        return await self._loop.run_in_executor(self._threads, contextvars.Context().run, call)

    def _run_from_thread(self, coroutine: Coroutine[Any, Any, T]) -> T:
        """Run a coroutine of a thread in the loop, and wait for it."""
        context = contextvars.copy_context()

        async def run() -> T:
            return await self._loop.create_task(coroutine, context=context)

        return asyncio.run_coroutine_threadsafe(run(), self._loop).result()

    # -- going out --

    def _report(self, number: int, result: Result) -> None:
        """Any thread."""
        packet = packets.encode_state(number, result)
        if asyncio._get_running_loop() is self._loop:  # pyright: ignore[reportPrivateUsage] - the public one raises
            self._send(packet)
        else:
            self._loop.call_soon_threadsafe(self._send, packet)

    def _send(self, packet: bytes) -> None:
        """Send, in order, once all that is ready to run has had its turn: what comes up together goes together."""
        if not self._unsent:
            self._loop.call_soon(self._flush, context=self._context)
        self._unsent.append(packet)

    def _flush(self) -> None:
        """Send without blocking the loop: when the supervisor is slow, go on as soon as it is not."""
        while self._unsent:
            count = self._bundle()
            try:
                self._end.send_now(self._unsent[0] if count == 1 else packets.encode_bundle(self._unsent[:count]))
            except BlockingIOError:
                if not self._writing:
                    self._writing = True
                    self._loop.add_writer(self._end.fileno(), self._flush)
                return
            del self._unsent[:count]
        if self._writing:
            self._writing = False
            self._loop.remove_writer(self._end.fileno())
        self._end_if_done()

    def _bundle(self) -> int:
        """How many of the packets that wait are small enough to go in one: at least the first."""
        size = count = 0
        for packet in self._unsent:
            size += len(packet)
            if count and size > BUNDLE_SIZE:
                break
            count += 1
        return count
