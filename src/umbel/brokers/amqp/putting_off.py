"""Putting off: deliveries that go back for a time, since it is not their turn under some limit.

A worker over a long backlog of limited tasks puts off hundreds a second. To send each into RabbitMQ's delay queues, and
to wait until they have it, would take all the time there is, and what has ended meanwhile would be settled, and its
place under the limit be given on, only after that. So nobody waits for it: a thread sends them, many at a time, and
acknowledges each when its copy is confirmed. Until then it is held, and comes back if the connection breaks.

As many as fit are not sent at all: the delivery stays held, and the same consumer gets it again, which costs the broker
nothing; each way through the delay queues passes several of them. Somebody else may have a lane for what is due, so it
goes to the queue when this worker does not take it, and when it has been told for ``_LONGEST_STAY`` to come again soon.
What is sent for long is sent for whole seconds, which is one delay queue less.
"""

from __future__ import annotations

import heapq
import math
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from typing import NamedTuple

from umbel.brokers.base import Delivery

_LONGEST_HERE = 30.0
"""Seconds that may be spent here at a time."""
_SOON = 1.0
_LONGEST_STAY = 2.0
_MOST_HERE = 1000
_MOST_BYTES_HERE = 16 << 20
_UNTAKEN = 0.2
"""Seconds after which what is due and was not taken goes to the queue."""
_AT_ONCE = 128
_LONG = 8.0


class Wait(NamedTuple):
    """A delivery that is put off until ``due``, by the monotonic clock. ``number``: its delivery tag."""

    due: float
    number: int
    delivery: Delivery

    def rest(self, moment: float) -> float:
        """For how many seconds it is to be sent at ``moment``."""
        rest = max(0.0, self.due - moment)
        return rest if rest < _LONG else float(math.ceil(rest))


class PuttingOff:
    """What a consumer has put off on its present connection.

    ``lock`` is held by those who call, unless it is said otherwise; ``send`` is called without it, in a thread that
    lives from the first call of ``begin`` to ``close``, with what is to go to its queue by way of the broker.
    """

    def __init__(self, lock: threading.RLock, send: Callable[[Sequence[Wait]], None]) -> None:
        self._news = threading.Condition(lock)
        self._send = send
        self._here: list[Wait] = []
        self._bytes = 0
        self._going: deque[Wait] = deque()
        self._since: dict[int, float] = {}
        self._thread: threading.Thread | None = None
        self._closed = False

    def begin(self, waits: Sequence[Wait]) -> None:
        """Put these off."""
        moment = time.monotonic()
        for wait in waits:
            soon = wait.due - moment <= _SOON
            since = self._since.setdefault(wait.number, moment) if soon else moment
            size = wait.delivery.message.size
            if (
                wait.due - moment <= _LONGEST_HERE
                and (not soon or wait.due - since <= _LONGEST_STAY)
                and len(self._here) < _MOST_HERE
                and self._bytes + size <= _MOST_BYTES_HERE
            ):
                heapq.heappush(self._here, wait)
                self._bytes += size
            else:
                self._going.append(wait)
        if self._thread is None:
            self._thread = threading.Thread(target=self._serve, name="umbel-put-off", daemon=True)
            self._thread.start()
        self._news.notify()

    def send_again(self, waits: Sequence[Wait]) -> None:
        """They were not sent, and are still held."""
        self._going.extendleft(reversed(waits))
        self._news.notify()

    @property
    def going(self) -> int:
        """How many are to be sent and were not yet."""
        return len(self._going)

    def until_due(self) -> float:
        """Seconds until something is to be taken, 0 for at once."""
        return max(0.0, self._here[0].due - time.monotonic()) if self._here else float("inf")

    def take_due(self, limit: int) -> list[Wait]:
        """Up to ``limit`` whose time has come, the longest due first."""
        return self._take(time.monotonic(), limit)

    def _take(self, until: float, limit: int) -> list[Wait]:
        taken: list[Wait] = []
        while self._here and len(taken) < limit and self._here[0].due <= until:
            taken.append(heapq.heappop(self._here))
            self._bytes -= taken[-1].delivery.message.size
        return taken

    def forget(self, number: int) -> None:
        """This delivery has been settled."""
        self._since.pop(number, None)

    def clear(self) -> None:
        """The connection is gone, and all that was put off with it."""
        self._here.clear()
        self._going.clear()
        self._since.clear()
        self._bytes = 0

    def close(self, timeout: float) -> list[Wait]:
        """Send nothing more; what was put off and not sent. Called without the lock; takes ``timeout`` seconds at most.
        Idempotent."""
        with self._news:
            self._closed = True
            self._news.notify()
        if self._thread is not None:
            self._thread.join(timeout)
        with self._news:
            left = sorted((*self._here, *self._going))
            self.clear()
        return left

    def _serve(self) -> None:
        while True:
            with self._news:
                if self._closed:
                    return
                leaving = self._leaving()
                if not leaving:
                    self._news.wait(self.until_due() + _UNTAKEN if self._here else None)
            if leaving:
                self._send(leaving)

    def _leaving(self) -> list[Wait]:
        leaving = self._take(time.monotonic() - _UNTAKEN, _AT_ONCE)
        while self._going and len(leaving) < _AT_ONCE:
            leaving.append(self._going.popleft())
        return leaving
