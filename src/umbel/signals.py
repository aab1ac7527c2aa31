"""Signals: functions of users that are called when something happens in Umbel. Names and arguments are Celery's.

Where a signal is sent, ``if signal.receivers:`` comes first, so that a signal to which nobody is connected costs one
look at an attribute. ``receivers`` is a tuple that is replaced whenever somebody connects, never changed.
Which process sends which signal: ``docs/how-to/signals.md``.
"""

from __future__ import annotations

import inspect
import logging
import threading
import time
import types
import weakref
from collections.abc import Callable, Iterable
from typing import Any, TypeVar, overload

from msgspec import Struct

F = TypeVar("F", bound=Callable[..., Any])

__all__ = [
    "Signal",
    "after_setup_logger",
    "after_setup_task_logger",
    "after_task_publish",
    "beat_embedded_init",
    "beat_init",
    "before_task_publish",
    "celeryd_after_setup",
    "celeryd_init",
    "eventlet_pool_apply",
    "eventlet_pool_postshutdown",
    "eventlet_pool_preshutdown",
    "eventlet_pool_started",
    "heartbeat_sent",
    "import_modules",
    "setup_logging",
    "task_failure",
    "task_internal_error",
    "task_postrun",
    "task_prerun",
    "task_received",
    "task_rejected",
    "task_retry",
    "task_revoked",
    "task_sent",
    "task_success",
    "task_unknown",
    "user_preload_options",
    "worker_before_create_process",
    "worker_init",
    "worker_process_init",
    "worker_process_shutdown",
    "worker_ready",
    "worker_shutdown",
    "worker_shutting_down",
]

log = logging.getLogger("umbel.signals")

_FIRST_PAUSE, _LONGEST_PAUSE = 0.1, 10.0


class Connection(Struct, frozen=True, eq=False):
    """One receiver of a signal. ``find`` gives the receiver, or None when it has gone; ``sender`` None: any."""

    find: Callable[[], Callable[..., Any] | None]
    sender: Any
    uid: Any
    retry: bool

    def is_for(self, receiver: Any, sender: Any, uid: Any) -> bool:
        """Whether connecting or disconnecting with these arguments means this connection."""
        if not _same(self.sender, sender):
            return False
        return self.uid == uid if uid is not None or self.uid is not None else self.find() == receiver


class Signal:
    """A named event with its receivers.

    ``providing_args``: names of the arguments with which it is sent, for reference. Receivers are called as
    ``receiver(signal=…, sender=…, **arguments)`` in the order in which they were connected, and must accept keyword
    arguments that they do not know.
    """

    def __init__(
        self, providing_args: Iterable[str] | None = None, use_caching: bool = False, name: str | None = None
    ) -> None:
        """``use_caching`` is accepted for Celery's sake; nothing needs to be cached here."""
        self.name = name
        self.providing_args = frozenset(providing_args or ())
        self.receivers: tuple[Connection, ...] = ()
        self._lock = threading.RLock()

    @overload
    def connect(
        self, receiver: F, /, sender: Any = ..., weak: bool | None = ..., dispatch_uid: Any = ..., retry: bool = ...
    ) -> F: ...
    @overload
    def connect(
        self, /, *, sender: Any = ..., weak: bool | None = ..., dispatch_uid: Any = ..., retry: bool = ...
    ) -> Callable[[F], F]: ...
    def connect(
        self,
        receiver: Any = None,
        /,
        sender: Any = None,
        weak: bool | None = None,
        dispatch_uid: Any = None,
        retry: bool = False,
    ) -> Any:
        """Call ``receiver`` from now on; also as a decorator, with and without arguments. Returns the receiver.

        ``sender``: only for signals of this sender; a task and its name mean the same. ``weak``: forget the receiver
        when nothing else refers to it; by default so for bound methods only. ``dispatch_uid``: a second connection
        with the same one is none; otherwise the receiver itself says whether it is connected already. ``retry``: when
        the receiver fails, call it again, with growing pauses, until it does not; whoever sends the signal waits.

        Raises TypeError for what cannot be called, and for coroutine functions, which nobody would await; ValueError
        for a receiver that does not accept any keyword argument.
        """
        if receiver is None:

            def decorate(decorated: F) -> F:
                return self.connect(decorated, sender=sender, weak=weak, dispatch_uid=dispatch_uid, retry=retry)

            return decorate
        _check(receiver)
        if weak is None:
            weak = isinstance(receiver, types.MethodType)
        find = self._weakly(receiver) if weak and not retry else lambda: receiver
        with self._lock:
            if not any(known.is_for(receiver, sender, dispatch_uid) for known in self.receivers):
                self.receivers = (*self.receivers, Connection(find, sender, dispatch_uid, retry))
        return receiver

    def _weakly(self, receiver: Any) -> Callable[[], Any]:
        kind: Any = weakref.WeakMethod if isinstance(receiver, types.MethodType) else weakref.ref
        return kind(receiver, self._forget)

    def _forget(self, gone: Any) -> None:
        with self._lock:
            self.receivers = tuple(known for known in self.receivers if known.find is not gone)

    def disconnect(
        self, receiver: Any = None, sender: Any = None, weak: bool | None = None, dispatch_uid: Any = None
    ) -> bool:
        """Call ``receiver``, or the one of ``dispatch_uid``, no more; whether it was connected with this ``sender``."""
        with self._lock:
            before = self.receivers
            self.receivers = tuple(known for known in before if not known.is_for(receiver, sender, dispatch_uid))
            return len(self.receivers) < len(before)

    def has_listeners(self, sender: Any = None) -> bool:
        """Whether a signal of this sender would be received by anybody."""
        return any(known.find() is not None and _matches(known.sender, sender) for known in self.receivers)

    def send(self, sender: Any = None, **named: Any) -> list[tuple[Callable[..., Any], Any]]:
        """Call the receivers; ``(receiver, what it returned)`` of each.

        An exception of a receiver is logged and stands in place of what it would have returned.
        """
        return self.send_to(self.receivers, sender, **named)

    def send_to(
        self, receivers: Iterable[Connection], sender: Any = None, **named: Any
    ) -> list[tuple[Callable[..., Any], Any]]:
        """As ``send``, to these of its receivers only."""
        responses: list[tuple[Callable[..., Any], Any]] = []
        for known in receivers:
            receiver = known.find()
            if receiver is None or not _matches(known.sender, sender):
                continue
            try:
                if known.retry:
                    response = self._insist(receiver, sender, named)
                else:
                    response = receiver(signal=self, sender=sender, **named)
            except (Exception, SystemExit) as error:
                log.exception("signal receiver failed: signal=%s receiver=%s", self.name, _described(receiver))
                response = error
            responses.append((receiver, response))
        return responses

    send_robust = send

    def _insist(self, receiver: Callable[..., Any], sender: Any, named: dict[str, Any]) -> Any:
        pause = _FIRST_PAUSE
        while True:
            try:
                return receiver(signal=self, sender=sender, **named)
            except Exception as error:
                log.warning(
                    "signal receiver failed, it is called again in %.1f s: signal=%s receiver=%s error=%r",
                    pause,
                    self.name,
                    _described(receiver),
                    error,
                )
            time.sleep(pause)
            pause = min(2 * pause, _LONGEST_PAUSE)

    def __repr__(self) -> str:
        return f"<Signal: {self.name} providing_args={sorted(self.providing_args)}>"


def _check(receiver: Any) -> None:
    if not callable(receiver):
        raise TypeError(f"a signal receiver must be callable, not {type(receiver).__name__}")
    if inspect.iscoroutinefunction(receiver):
        raise TypeError(f"a signal receiver must be a plain function, {_described(receiver)} is a coroutine function")
    try:
        parameters = inspect.signature(receiver).parameters.values()
    except (TypeError, ValueError):
        return  # written in C: only calling it will tell
    if not any(parameter.kind is inspect.Parameter.VAR_KEYWORD for parameter in parameters):
        raise ValueError(f"a signal receiver must accept any keyword argument: add **kwargs to {_described(receiver)}")


def _described(receiver: Any) -> str:
    return f"{getattr(receiver, '__module__', '?')}.{getattr(receiver, '__qualname__', type(receiver).__name__)}"


def _matches(wanted: Any, sender: Any) -> bool:
    """Whether a receiver connected for ``wanted`` gets what ``sender`` sends."""
    return wanted is None or _same(wanted, sender)


def _same(one: Any, other: Any) -> bool:
    """Whether two senders are the same: the same object, perhaps through a proxy; a task and its name, too."""
    if isinstance(one, str) or isinstance(other, str):
        return _name(one) == _name(other)
    return _real(one) is _real(other)


def _name(sender: Any) -> Any:
    return sender if isinstance(sender, str) else getattr(sender, "name", None)


def _real(sender: Any) -> Any:
    """What a proxy stands for now, as ``shared_task`` makes them; anything else is itself."""
    resolve = None if isinstance(sender, type) else getattr(sender, "_get_current_object", None)
    return sender if resolve is None else resolve()


# -- clients --

before_task_publish = Signal(
    ["body", "exchange", "routing_key", "headers", "properties", "declare", "retry_policy"], name="before_task_publish"
)
"""A message is about to be made, in the process that sends it. Sender: the task's name. What is changed in ``headers``,
``properties`` and ``body`` takes effect."""

after_task_publish = Signal(["body", "exchange", "routing_key", "headers"], name="after_task_publish")
"""The broker has the message. Sender: the task's name."""

task_sent = Signal(["task_id", "task", "args", "kwargs", "eta", "taskset"], name="task_sent")
"""Older form of ``after_task_publish``."""


# -- tasks, where they run --

task_prerun = Signal(["task_id", "task", "args", "kwargs"], name="task_prerun")
"""A task begins. Sender: the task."""

task_postrun = Signal(["task_id", "task", "args", "kwargs", "retval", "state"], name="task_postrun")
"""A task has ended, whatever the outcome; ``retval`` is its value or exception. Sender: the task."""

task_success = Signal(["result", "runtime"], name="task_success")
"""A task returned; ``runtime`` in seconds. Sender: the task."""

task_retry = Signal(["request", "reason", "einfo"], name="task_retry")
"""A task is to be retried; ``reason`` is the Retry. Sender: the task."""

task_failure = Signal(["task_id", "exception", "args", "kwargs", "traceback", "einfo"], name="task_failure")
"""A task failed for good, or its process died with it. Sender: the task."""

task_internal_error = Signal(
    ["task_id", "args", "kwargs", "request", "exception", "traceback", "einfo"], name="task_internal_error"
)
"""The outcome of a task could not be made, for example because its error cannot be serialized. Sender: the task."""


# -- tasks, where they arrive --

task_received = Signal(["request"], name="task_received")
"""A message was claimed and is to be run by this worker. Sender: the worker."""

task_revoked = Signal(["request", "terminated", "signum", "expired"], name="task_revoked")
"""A task was not run, because it expired or was revoked. Sender: the task."""

task_unknown = Signal(["name", "id", "message", "exc"], name="task_unknown")
"""No task of this name is known here; the message is parked. Sender: the worker."""

task_rejected = Signal(["message", "exc"], name="task_rejected")
"""A message cannot be read; it is dead-lettered. Sender: the worker."""


# -- the application and its programs --

import_modules = Signal(name="import_modules")
"""The modules of tasks are about to be imported; an error of a receiver is raised. Sender: the application."""

user_preload_options = Signal(["app", "options"], name="user_preload_options")
"""A program has read the options before its command, and found its application."""

setup_logging = Signal(["loglevel", "logfile", "format", "colorize"], name="setup_logging")
"""Logging is to be set up: whoever connects does it instead of Umbel."""

after_setup_logger = Signal(["logger", "loglevel", "logfile", "format", "colorize"], name="after_setup_logger")
"""Umbel has set up the root logger."""

after_setup_task_logger = Signal(
    ["logger", "loglevel", "logfile", "format", "colorize"], name="after_setup_task_logger"
)
"""Umbel has set up the logger of tasks."""


# -- the worker --

celeryd_init = Signal(["instance", "conf", "options"], name="celeryd_init")
"""A worker is being made; ``conf`` may be changed. Sender: its node name."""

worker_init = Signal(name="worker_init")
"""The worker is about to start; nothing was forked yet. Sender: the worker."""

celeryd_after_setup = Signal(["instance", "conf"], name="celeryd_after_setup")
"""The worker is set up, its queues are chosen; nothing was forked yet. Sender: its node name."""

worker_before_create_process = Signal(name="worker_before_create_process")
"""An executor is about to be forked, in the process that forks it (the nursery). Sender: None."""

worker_process_init = Signal(name="worker_process_init")
"""An executor has started, in that process."""

worker_process_shutdown = Signal(["pid", "exitcode"], name="worker_process_shutdown")
"""An executor is about to end, in that process; not when it is killed."""

worker_ready = Signal(name="worker_ready")
"""The worker has begun to claim work. Sender: the worker."""

heartbeat_sent = Signal(name="heartbeat_sent")
"""The worker's lease was renewed at the broker. Sender: the worker."""

worker_shutting_down = Signal(["sig", "how", "exitcode"], name="worker_shutting_down")
"""The worker begins to stop; ``how`` is Warm or Cold, ``sig`` the signal's name or None. Sender: its node name."""

worker_shutdown = Signal(name="worker_shutdown")
"""The worker has stopped; its connections are still open. Sender: the worker."""


# -- the scheduler --

beat_init = Signal(name="beat_init")
"""The scheduler starts."""

beat_embedded_init = Signal(name="beat_embedded_init")
"""A scheduler starts inside a worker."""


# -- the eventlet pool --

eventlet_pool_started = Signal(name="eventlet_pool_started")
"""The pool has started."""

eventlet_pool_preshutdown = Signal(name="eventlet_pool_preshutdown")
"""The pool is about to be waited for."""

eventlet_pool_postshutdown = Signal(name="eventlet_pool_postshutdown")
"""The pool has ended."""

eventlet_pool_apply = Signal(["target", "args", "kwargs"], name="eventlet_pool_apply")
"""A call is given to the pool."""
