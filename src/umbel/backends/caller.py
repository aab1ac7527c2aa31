"""A thread that hands results over to subscribers, so that their code holds up neither a sender nor a connection."""

from __future__ import annotations

import logging
import queue
import threading
from collections.abc import Callable

logger = logging.getLogger("umbel.backends")


class Caller:
    """A thread that makes calls one after the other; it begins with the first and ends with ``close``."""

    def __init__(self, name: str) -> None:
        """``name``: of the thread."""
        self._name = name
        self._calls: queue.SimpleQueue[Callable[[], object] | None] = queue.SimpleQueue()
        self._guard = threading.Lock()
        self._thread: threading.Thread | None = None

    def call(self, action: Callable[[], object]) -> None:
        """Have ``action`` called soon; does not block. What it raises is logged."""
        with self._guard:
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, name=self._name, daemon=True)
                self._thread.start()
        self._calls.put(action)

    def _run(self) -> None:
        while (action := self._calls.get()) is not None:
            try:
                action()
            except Exception:
                logger.exception("a result could not be handed over to its subscriber")

    def close(self) -> None:
        """End the thread after the calls that wait. Idempotent."""
        with self._guard:
            thread, self._thread = self._thread, None
        if thread is not None:
            self._calls.put(None)
            if thread is not threading.current_thread():
                thread.join()
