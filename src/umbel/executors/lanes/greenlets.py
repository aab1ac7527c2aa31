"""Lanes that are greenlets: ``gevent`` and ``eventlet``.

The executor is patched before the application is imported, so that threads, locks and sockets of everybody's code are
greenlets' own there. What remains to be done is to wait for the channel without blocking the others, and to run async
tasks, whose loop has a thread of the operating system for itself.
"""

from __future__ import annotations

import asyncio
import contextvars
import importlib
import importlib.util
import os
import selectors
import sys
import threading
from abc import abstractmethod
from collections import deque
from collections.abc import Callable, Coroutine, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any, ClassVar

from msgspec import Struct

from umbel.executors.channel import ExecutorEnd, PollableEnd
from umbel.executors.interrupts import heard, open_bell_end
from umbel.executors.lanes.green_guard import Cancel, GreenGuard
from umbel.executors.lanes.threads import ThreadLanes
from umbel.executors.originals import original, original_module
from umbel.guarding import Guard
from umbel.loops import use_loop_of

Wait = Callable[[int], object]


class GreenletLanes(ThreadLanes):
    """What gevent and eventlet have in common: threads are greenlets in a patched process."""

    default_count: ClassVar[int | None] = 100
    needs_packets = True

    def run(self) -> None:
        self.after_fork()
        self._loop = LoopThread(self.wait_readable, self.selector)
        use_loop_of(self._loop.run, starts_threads=False)
        try:
            super().run()
        finally:
            self._loop.close()

    def end(self) -> ExecutorEnd:
        assert isinstance(self.station.end, PollableEnd)
        return GreenEnd(self.station.end, self.wait_readable, self.wait_writable)

    def guards(self) -> Sequence[Guard]:
        from greenlet import getcurrent

        guards = [GreenGuard(getcurrent, self.call_in_hub) for _ in range(self.station.count)]
        threading.Thread(target=self._listen, args=(guards,), name="umbel-bell", daemon=True).start()
        return guards

    def _listen(self, guards: Sequence[Guard]) -> None:
        with open_bell_end(self.station.bell) as bell:
            while True:
                self.wait_readable(bell.fileno())
                number = heard(bell.recv(16))
                if not number:
                    return
                for guard in guards:
                    guard.end(number)

    @abstractmethod
    def call_in_hub(self, seconds: float, function: Callable[[], object]) -> Cancel:
        """Have the library's own greenlet call a function later; what is returned prevents it."""

    @abstractmethod
    def after_fork(self) -> None:
        """Make the library's own loop anew."""

    @abstractmethod
    def wait_readable(self, fd: int) -> None:
        """Let other greenlets run until there is something to read."""

    @abstractmethod
    def wait_writable(self, fd: int) -> None: ...

    @abstractmethod
    def selector(self) -> selectors.BaseSelector:
        """One that waits as if nothing was patched."""


class GeventLanes(GreenletLanes):
    """Greenlets of gevent."""

    name = "gevent"
    library = "gevent"
    patch = "import gevent.monkey\ngevent.monkey.patch_all()"

    def after_fork(self) -> None:
        import gevent

        gevent.reinit()
        self._event_loop: Any = gevent.get_hub().loop

    def call_in_hub(self, seconds: float, function: Callable[[], object]) -> Cancel:
        timer = self._event_loop.timer(seconds)

        def fire() -> None:
            timer.close()
            function()

        timer.start(fire)
        return timer.close

    def wait_readable(self, fd: int) -> None:
        from gevent.socket import wait_read

        wait_read(fd)

    def wait_writable(self, fd: int) -> None:
        from gevent.socket import wait_write

        wait_write(fd)

    def selector(self) -> selectors.BaseSelector:
        return original("selectors", "DefaultSelector")()


class EventletLanes(GreenletLanes):
    """Greenlets of eventlet."""

    name = "eventlet"
    library = "eventlet"
    patch = "import eventlet\neventlet.monkey_patch()"

    def after_fork(self) -> None:
        self._hubs: Any = importlib.import_module("eventlet.hubs")
        self._hubs.use_hub()

    def call_in_hub(self, seconds: float, function: Callable[[], object]) -> Cancel:
        return self._hubs.get_hub().schedule_call_global(seconds, function).cancel

    def wait_readable(self, fd: int) -> None:
        self._hubs.trampoline(fd, read=True)

    def wait_writable(self, fd: int) -> None:
        self._hubs.trampoline(fd, write=True)

    def selector(self) -> selectors.BaseSelector:
        """From a second ``selectors`` module: eventlet has taken the real ones out of the first."""
        spec = importlib.util.find_spec("selectors")
        assert spec is not None and spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        patched = sys.modules["select"]
        sys.modules["select"] = original_module("select")
        try:
            spec.loader.exec_module(module)
        finally:
            sys.modules["select"] = patched
        return module.DefaultSelector()


class GreenEnd:
    """An executor's end that lets other greenlets run while it waits."""

    def __init__(self, end: PollableEnd, wait_readable: Wait, wait_writable: Wait) -> None:
        self._end = end
        self._wait_readable = wait_readable
        self._wait_writable = wait_writable

    def send(self, packet: bytes) -> None:
        while True:
            try:
                return self._end.send_now(packet)
            except BlockingIOError:
                self._wait_writable(self._end.fileno())

    def receive(self) -> bytes | None:
        while True:
            try:
                return self._end.receive_now()
            except BlockingIOError:
                self._wait_readable(self._end.fileno())

    def finish(self) -> None:
        self._end.finish()


class _Call(Struct, eq=False):
    """A coroutine on its way through the loop; ``done`` belongs to the greenlet that waits."""

    coroutine: Coroutine[Any, Any, Any]
    context: contextvars.Context
    done: threading.Event
    value: Any = None
    error: BaseException | None = None


class LoopThread:
    """An event loop in a real thread, for greenlets to wait for what runs in it. Begins with the first coroutine."""

    def __init__(self, wait_readable: Wait, selector: Callable[[], selectors.BaseSelector]) -> None:
        self._wait_readable = wait_readable
        self._selector = selector
        self._loop: asyncio.AbstractEventLoop | None = None
        self._ended: deque[_Call] = deque()
        self._threads: deque[Callable[[], None]] = deque()
        self._tasks: set[asyncio.Task[None]] = set()

    def run(self, coroutine: Coroutine[Any, Any, Any]) -> Any:
        """Run it to its end; other greenlets run meanwhile. Raises what it raises."""
        loop = self._loop or self._start()
        call = _Call(coroutine, contextvars.copy_context(), threading.Event())
        loop.call_soon_threadsafe(self._begin, call)
        call.done.wait()
        if call.error is not None:
            raise call.error
        return call.value

    def close(self) -> None:
        if self._loop is not None:
            self._loop.call_soon_threadsafe(self._loop.stop)

    def _start(self) -> asyncio.AbstractEventLoop:
        self._bell, self._button = os.pipe()
        self._loop = loop = asyncio.SelectorEventLoop(self._selector())
        loop.set_default_executor(GreenExecutor(loop, self._start_green))
        original("_thread", "start_new_thread")(loop.run_forever, ())
        threading.Thread(target=self._listen, name="umbel-async", daemon=True).start()
        return loop

    # -- in the loop's thread --

    def _begin(self, call: _Call) -> None:
        assert self._loop is not None
        task = self._loop.create_task(self._run(call), context=call.context)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _run(self, call: _Call) -> None:
        try:
            call.value = await call.coroutine
        except BaseException as error:
            call.error = error
        self._ended.append(call)
        _write(self._button, b"!")

    def _start_green(self, body: Callable[[], None]) -> None:
        self._threads.append(body)
        _write(self._button, b"!")

    # -- in a greenlet --

    def _listen(self) -> None:
        while True:
            self._wait_readable(self._bell)
            _read(self._bell, 4096)
            while self._threads:
                threading.Thread(target=self._threads.popleft(), name="umbel-to-thread", daemon=True).start()
            while self._ended:
                self._ended.popleft().done.set()


class GreenExecutor(ThreadPoolExecutor):
    """What ``asyncio.to_thread`` of the loop's thread runs becomes a greenlet of the main thread, to which patched
    sockets and locks belong."""

    def __init__(self, loop: asyncio.AbstractEventLoop, start: Callable[[Callable[[], None]], None]) -> None:
        """``start`` runs a function in a greenlet of the main thread; it is called in the loop's thread."""
        super().__init__(1)
        self._loop = loop
        self._start = start

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Any:
        """A future of asyncio, which ``loop.run_in_executor`` takes as well as others."""
        future: asyncio.Future[Any] = self._loop.create_future()

        def run() -> None:
            try:
                settle = partial(_set_result, future, fn(*args, **kwargs))
            except BaseException as error:
                settle = partial(_set_exception, future, error)
            self._loop.call_soon_threadsafe(settle)

        self._start(run)
        return future


def _set_result(future: asyncio.Future[Any], value: Any) -> None:
    if not future.done():
        future.set_result(value)


def _set_exception(future: asyncio.Future[Any], error: BaseException) -> None:
    if not future.done():
        future.set_exception(error)


_read = original("os", "read")
_write = original("os", "write")
