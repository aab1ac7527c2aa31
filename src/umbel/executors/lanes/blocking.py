"""Finds tasks that block the event loop of an executor, and says in the log where they do."""

from __future__ import annotations

import asyncio
import logging
import sys
import threading
import time
import traceback
from collections.abc import Callable, Sized
from typing import TYPE_CHECKING, Any, Self

if TYPE_CHECKING:
    from umbel.message import Message

logger = logging.getLogger("umbel.executor")

_PERIOD = 0.25


class BlockingWatch:
    """A thread that asks the loop for a sign of life every quarter of a second; a context manager.

    Each time that none comes for ``threshold`` seconds, the stack of the loop's thread is logged, once.
    """

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        threshold: float,
        running: Sized,
        message_of: Callable[[Any], Message | None],
    ) -> None:
        """To be made in the loop's thread. ``threshold``: 0 watches nothing. ``running``: empty when there is nothing
        to watch. ``message_of``: what a task of asyncio runs."""
        self._loop = loop
        self._running = running
        self._message_of = message_of
        self._thread_id = threading.get_ident()
        self._threshold = threshold
        self._closed = threading.Event()
        self._answered = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="umbel-blocking", daemon=True)

    def __enter__(self) -> Self:
        if self._threshold:
            self._thread.start()
        return self

    def __exit__(self, *exc: object) -> None:
        self._closed.set()
        self._answered.set()
        if self._threshold:
            self._thread.join()

    def _watch(self) -> None:
        while not self._closed.wait(min(_PERIOD, self._threshold)):
            if not self._running:
                continue
            self._answered.clear()
            asked = time.monotonic()
            self._loop.call_soon_threadsafe(self._answered.set)
            if not self._answered.wait(self._threshold):
                self._tell()
                self._answered.wait()
                blocked = time.monotonic() - asked
                if not self._closed.is_set():
                    logger.warning("the event loop runs again", extra={"data": {"blocked": round(blocked, 3)}})

    def _tell(self) -> None:
        frame = sys._current_frames().get(self._thread_id)  # pyright: ignore[reportPrivateUsage]
        if frame is None:
            return
        stack = "".join(traceback.format_stack(frame)).rstrip()
        message = self._message_of(asyncio.current_task(self._loop))
        data = {"task": message.task, "id": message.id} if message is not None else {}
        logger.warning("a task blocks the event loop, and with it all others\n%s", stack, extra={"data": data})
