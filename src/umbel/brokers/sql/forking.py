"""Forks of a process whose other threads use SQLite.

The library has mutexes of its own. A child that is forked while another thread holds one of them gets it locked, with
nobody to unlock it, and hangs in its first call. So a fork waits until no thread is inside of the library.
"""

from __future__ import annotations

import os
import threading
from contextlib import AbstractContextManager

PATIENCE = 2.0
"""Seconds that a fork waits at most: a thread may be waiting for another process that writes."""


class Inside(AbstractContextManager[None]):
    """A context for calls of the library, not to be nested: any number of threads are inside at a time, but for the
    moment of a fork."""

    def __init__(self) -> None:
        self._renew()
        os.register_at_fork(before=self._close, after_in_parent=self._open, after_in_child=self._renew)

    def _renew(self) -> None:
        self._changed = threading.Condition()
        self._count = 0
        self._forks = 0

    def __enter__(self) -> None:
        with self._changed:
            while self._forks:
                self._changed.wait()
            self._count += 1

    def __exit__(self, *_: object) -> None:
        with self._changed:
            self._count -= 1
            if self._forks and not self._count:
                self._changed.notify_all()

    def _close(self) -> None:
        self._changed.acquire()
        self._forks += 1
        self._changed.wait_for(lambda: not self._count, PATIENCE)

    def _open(self) -> None:
        self._forks -= 1
        self._changed.notify_all()
        self._changed.release()


SQLITE = Inside()
