"""A timer for boot steps: calls functions later, or again and again, in a thread of its own."""

from __future__ import annotations

import asyncio
import logging
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from umbel.bootsteps import HookThread
from umbel.bootsteps.hooks import PATIENCE

logger = logging.getLogger("umbel.worker.timer")

_NO_KEYWORDS: Mapping[str, Any] = {}


class Entry:
    """A call to come. ``cancel`` may be called from any thread, more than once."""

    def __init__(self, loop: asyncio.AbstractEventLoop, call: Callable[[], Any], every: float | None) -> None:
        self.cancelled = False
        self._loop = loop
        self._call = call
        self._every = every
        self._handle: asyncio.TimerHandle | None = None

    def schedule(self, delay: float, hooks: HookThread) -> None:
        """Loop thread: call after ``delay`` seconds."""
        if not self.cancelled:
            self._handle = self._loop.call_later(delay, hooks.post, lambda: self._run(hooks))

    def _run(self, hooks: HookThread) -> None:
        if self.cancelled:
            return
        try:
            self._call()
        except Exception:
            logger.exception("a call of the timer failed")
        if self._every is not None and not self._loop.is_closed():
            self._loop.call_soon_threadsafe(self.schedule, self._every, hooks)

    def cancel(self) -> None:
        """Call no more; a call that has begun goes on."""
        self.cancelled = True
        if self._handle is not None and not self._loop.is_closed():
            self._loop.call_soon_threadsafe(self._handle.cancel)


class Timer:
    """``worker.timer``: may be used from ``start`` of a step that requires ``Timer`` until ``shutdown``, by any thread.

    Times are seconds. The functions are called one at a time, so each must be short. An error is logged, and does not
    end what repeats. ``priority`` is accepted for Celery's sake.
    """

    def __init__(self) -> None:
        self._hooks = HookThread("umbel-timer")
        self._loop: asyncio.AbstractEventLoop | None = None
        self._entries: set[Entry] = set()
        self._lock = threading.Lock()

    def start(self) -> None:
        """Loop thread."""
        self._loop = asyncio.get_running_loop()

    def stop(self) -> None:
        """Cancel all."""
        with self._lock:
            entries, self._entries = self._entries, set()
        for entry in entries:
            entry.cancel()
        self._hooks.close(PATIENCE)
        self._loop = None

    def call_after(
        self,
        secs: float,
        fun: Callable[..., Any],
        args: Sequence[Any] = (),
        kwargs: Mapping[str, Any] = _NO_KEYWORDS,
        priority: int = 0,
    ) -> Entry:
        """Call ``fun`` once, in ``secs`` seconds."""
        return self._add(secs, lambda: fun(*args, **kwargs), None)

    def call_at(
        self,
        eta: float,
        fun: Callable[..., Any],
        args: Sequence[Any] = (),
        kwargs: Mapping[str, Any] = _NO_KEYWORDS,
        priority: int = 0,
    ) -> Entry:
        """Call ``fun`` once, at Unix time ``eta``."""
        return self._add(max(0.0, eta - time.time()), lambda: fun(*args, **kwargs), None)

    def call_repeatedly(
        self,
        secs: float,
        fun: Callable[..., Any],
        args: Sequence[Any] = (),
        kwargs: Mapping[str, Any] = _NO_KEYWORDS,
        priority: int = 0,
    ) -> Entry:
        """Call ``fun`` in ``secs`` seconds, and that long after each call has ended."""
        return self._add(secs, lambda: fun(*args, **kwargs), secs)

    def _add(self, delay: float, call: Callable[[], Any], every: float | None) -> Entry:
        if self._loop is None:
            raise RuntimeError("the timer does not run; the step that uses it must require 'Timer'")
        entry = Entry(self._loop, call, every)
        with self._lock:
            self._entries = {each for each in self._entries if not each.cancelled} | {entry}
        self._loop.call_soon_threadsafe(entry.schedule, delay, self._hooks)
        return entry
