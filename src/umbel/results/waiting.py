"""Waiting in the calling thread until tasks have ended, for one and for many."""

from __future__ import annotations

import time
from collections.abc import Callable

from umbel.backends.base import Backend, Meta
from umbel.results.base import OnInterval

_SHORTEST = 0.01
"""Seconds between two calls of ``on_interval``, at least."""


class _Stop(Exception):
    """Ends the waiting: what is to be raised is kept where no store takes it for an error of its own."""


def wait_for(
    backend: Backend,
    missing: Callable[[], list[str]],
    timeout: float | None,
    on_meta: Callable[[Meta], object],
    interval: float = 0.5,
    on_interval: OnInterval | None = None,
) -> bool:
    """Wait until nothing is ``missing``; false when ``timeout`` seconds passed first.

    ``on_interval`` is called every ``interval`` seconds; without it all is one wait of the store. Raises what
    ``on_meta`` raises.
    """
    deadline = None if timeout is None else time.monotonic() + timeout
    stopped: list[Exception] = []

    def guarded(meta: Meta) -> None:
        try:
            on_meta(meta)
        except Exception as error:
            stopped.append(error)
            raise _Stop from error

    try:
        while ids := missing():
            left = None if deadline is None else max(0.0, deadline - time.monotonic())
            piece = left
            if on_interval is not None:
                piece = max(interval, _SHORTEST) if left is None else min(left, max(interval, _SHORTEST))
            if backend.wait(ids, piece, guarded):
                return not missing()
            if on_interval is not None:
                on_interval()
            if deadline is not None and time.monotonic() >= deadline:
                return not missing()
        return True
    except _Stop:
        pass
    raise stopped[0]
