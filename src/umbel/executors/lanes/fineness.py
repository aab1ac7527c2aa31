"""An event loop whose timers are exact: ``epoll`` rounds every wait up to a whole millisecond, which makes all that a
task waits for longer, and lets the tasks of many lanes end in bursts."""

from __future__ import annotations

import asyncio
import select
import selectors

_LONGEST = 1.0
"""Seconds; a millisecond does not matter to longer waits."""

_SELECT_LIMIT = 1024
"""``select(2)`` takes descriptors below it only."""


class FineSelector(selectors.EpollSelector):
    """Waits by ``select`` for the descriptor of ``epoll`` itself, to the microsecond."""

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        if timeout is not None and 0 < timeout < _LONGEST and self.fileno() < _SELECT_LIMIT:
            if not select.select([self.fileno()], [], [], timeout)[0]:
                return []
            timeout = 0
        return super().select(timeout)


def new_loop() -> asyncio.AbstractEventLoop:
    """A loop with exact timers, or the one of another kind that the event-loop policy makes (uvloop's, for example)."""
    loop = asyncio.new_event_loop()
    if type(loop) is not asyncio.SelectorEventLoop:
        return loop
    loop.close()
    return asyncio.SelectorEventLoop(FineSelector())
