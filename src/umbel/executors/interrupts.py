"""How a task is interrupted from outside of its function: by a timer's signal in the main thread of a process, by an
exception raised from another thread in threads. Greenlets have their own way (``lanes.green_guard``), coroutines theirs
(``umbel.guarding``).

The supervisor asks for the end of a task through the executor's *bell*: a packet socket on which each packet is the
number of a task. An executor that listens to it is asked first, and killed when it does not obey.
"""

from __future__ import annotations

import ctypes
import signal
import socket
import struct
import sys
import threading
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from umbel.errors import SoftTimeLimitExceeded
from umbel.executors.originals import original
from umbel.guarding import Guard, TaskEnded

_NUMBER = struct.Struct("<Q")
_NOT_RETURNED = object()


# -- the bell ------------------------------------------------------------------------------------------------


def open_bell() -> tuple[socket.socket, socket.socket]:
    """The ends of supervisor and executor."""
    linux = sys.platform.startswith("linux")
    own, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET if linux else socket.SOCK_DGRAM)
    own.setblocking(False)
    return own, theirs


def open_bell_end(fd: int) -> socket.socket:
    """The executor's end from its descriptor. Blocks the whole thread, also where greenlets have patched sockets."""
    end: socket.socket = original("socket", "socket")(fileno=fd)
    end.setblocking(True)
    return end


def ring(bell: socket.socket, number: int) -> None:
    """Ask for the end of task ``number``. An executor that has gone, or does not listen, does not hear it."""
    try:
        bell.send(_NUMBER.pack(number))
    except (BlockingIOError, BrokenPipeError, ConnectionResetError):
        return  # who does not listen is killed when the grace time is over


def heard(packet: bytes) -> int:
    """The number of the task that is to end; 0 when the supervisor has gone."""
    return _NUMBER.unpack(packet)[0] if packet else 0


class BellThread(threading.Thread):
    """Listens in a thread, until the supervisor closes the bell."""

    def __init__(self, bell: socket.socket, guards: Iterable[Guard]) -> None:
        super().__init__(name="umbel-bell", daemon=True)
        self._bell = bell
        self._guards = list(guards)

    def run(self) -> None:
        with self._bell:
            while number := heard(self._bell.recv(_NUMBER.size)):
                for guard in self._guards:
                    guard.end(number)


# -- the main thread of a process ----------------------------------------------------------------------------


class SignalGuard(Guard):
    """Soft limits by ``SIGALRM``, in a main thread; ended is such a task with its process.

    A handler and a timer of the user's own are put back after each task; a task that sets them itself while it runs
    under a soft limit takes that limit's place.
    """

    always = False

    def __init__(self) -> None:
        super().__init__()
        self._armed = False
        self._handler = self._on_alarm

    def call(self, function: Callable[..., Any], args: Sequence[Any], kwargs: Mapping[str, Any]) -> Any:
        if self.soft is None:
            return function(*args, **kwargs)
        value = _NOT_RETURNED
        handler = signal.signal(signal.SIGALRM, self._handler)
        begun = time.monotonic()
        rest, every = signal.setitimer(signal.ITIMER_REAL, 0)
        try:
            try:
                self._armed = True
                signal.setitimer(signal.ITIMER_REAL, self.soft)
                value = function(*args, **kwargs)
            finally:
                self._armed = False
                self._restore(handler, rest and max(1e-6, rest - (time.monotonic() - begun)), every)
        except SoftTimeLimitExceeded:
            if value is _NOT_RETURNED:
                raise
        return value

    def end(self, number: int) -> None:
        """Nobody asks: the supervisor ends the process."""

    def _on_alarm(self, number: int, frame: object) -> None:
        if self._armed:
            self._armed = False
            raise SoftTimeLimitExceeded

    def _restore(self, handler: Any, rest: float, every: float) -> None:
        if signal.getsignal(signal.SIGALRM) is self._handler:
            signal.setitimer(signal.ITIMER_REAL, rest, every)
            if handler is not None:
                signal.signal(signal.SIGALRM, handler)


# -- threads -------------------------------------------------------------------------------------------------


class ThreadGuard(Guard):
    """Of a lane that is a thread, or hands its tasks to one: interrupted by asynchronous exceptions.

    Those are raised between two steps of Python: a call into C is not interrupted but followed by the exception.
    """

    def __init__(self) -> None:
        super().__init__()
        self._lock = threading.Lock()
        self._thread = 0
        self._due: type[BaseException] | None = None
        self._raised = False
        self._was_ended = False

    def begin(self, number: int, soft: float | None) -> None:
        with self._lock:
            super().begin(number, soft)
            self._due = None

    def call(self, function: Callable[..., Any], args: Sequence[Any], kwargs: Mapping[str, Any]) -> Any:
        value = _NOT_RETURNED
        try:
            try:
                self._arm()
                value = function(*args, **kwargs)
            finally:
                self._disarm()
        except BaseException:
            if self._was_ended:
                raise TaskEnded from None
            if value is _NOT_RETURNED:
                raise
        if self._was_ended:
            raise TaskEnded
        return value

    def end(self, number: int) -> None:
        with self._lock:
            if number == self.number:
                self.ended = True
                self._raise(TaskEnded)

    def on_soft_limit(self, number: int) -> None:
        """Any thread: the soft limit of task ``number`` is over."""
        with self._lock:
            if number == self.number and not self.ended and self._cancel is None:
                self._raise(SoftTimeLimitExceeded)

    def _raise(self, error: type[BaseException]) -> None:
        """With the lock held, which the lane takes to say that the function has ended."""
        if self._thread:
            self._raised = True
            _raise_in(self._thread, error)
        elif self._cancel is not None:
            self._cancel()
        else:
            self._due = error

    def _arm(self) -> None:
        with self._lock:
            self._raised = self._was_ended = False
            due, self._due = self._due, None
            self._thread = threading.get_ident()
        if due is not None:
            raise due

    def _disarm(self) -> None:
        """Nothing is raised in this thread any more; what was not raised yet never will be."""
        while True:
            try:
                with self._lock:
                    thread, self._thread = self._thread, 0
                    self._was_ended = self._was_ended or self.ended
                    if self._raised:
                        _raise_in(thread or threading.get_ident(), None)
                return
            except (SoftTimeLimitExceeded, TaskEnded):
                continue


def _raise_in(thread: int, error: type[BaseException] | None) -> None:
    """Raise ``error`` in a thread at its next step of Python; None takes back what was not raised yet."""
    ctypes.pythonapi.PyThreadState_SetAsyncExc(ctypes.c_ulong(thread), error and ctypes.py_object(error))


class SoftLimitThread:
    """Tells guards of threads when a soft limit is over. Its thread begins with the first limit."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._deadlines: dict[ThreadGuard, tuple[float, int]] = {}
        self._wakes_at = float("inf")
        self._thread: threading.Thread | None = None
        self._closed = False

    def watch(self, guard: ThreadGuard, number: int, soft: float) -> None:
        """From now on ``soft`` seconds; takes the place of what was watched for this guard."""
        deadline = time.monotonic() + soft
        with self._changed:
            self._deadlines[guard] = deadline, number
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, name="umbel-soft-limits", daemon=True)
                self._thread.start()
            elif deadline < self._wakes_at:
                self._changed.notify()

    def close(self) -> None:
        with self._changed:
            self._closed = True
            self._changed.notify()

    def _run(self) -> None:
        while not self._closed:
            for guard, number in self._overdue():
                guard.on_soft_limit(number)
            with self._changed:
                if self._closed:
                    return
                nearest = min((deadline for deadline, _ in self._deadlines.values()), default=None)
                self._wakes_at = float("inf") if nearest is None else nearest
                self._changed.wait(None if nearest is None else max(0.0, nearest - time.monotonic()))

    def _overdue(self) -> list[tuple[ThreadGuard, int]]:
        now = time.monotonic()
        with self._changed:
            overdue = [(guard, number) for guard, (deadline, number) in self._deadlines.items() if deadline <= now]
            for guard, _ in overdue:
                del self._deadlines[guard]
        return overdue


class WatchedThreadGuard(ThreadGuard):
    """A guard whose soft limits are watched by a thread."""

    def __init__(self, watch: SoftLimitThread) -> None:
        super().__init__()
        self._watch = watch

    def begin(self, number: int, soft: float | None) -> None:
        super().begin(number, soft)
        if soft is not None:
            self._watch.watch(self, number, soft)


_watch = SoftLimitThread()


def guard_of_this_thread() -> Guard:
    """A guard for a lane that has been given none: by signals in the main thread, by exceptions in others."""
    if threading.current_thread() is threading.main_thread():
        return SignalGuard()
    return WatchedThreadGuard(_watch)
