"""How many messages the worker may claim now, shared between the threads that claim."""

from __future__ import annotations

import threading


class Claims:
    """Room is offered whenever the state changes; a claiming thread takes all of it, and it is counted back when the
    claim is answered.

    While work flows, room is taken by the thread that settles, in the round trip that it makes anyway. When a lane is
    idle it is left to the receiving thread, which can wait for work; that one steps in too when half of the window is
    free. What the settling thread itself publishes may be claimed by it at once, for lanes that are idle, though the
    receiving thread waits with all the room there is: unless the window is ``strict``.
    """

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._room = 0
        self._granted = 0
        self._due = False
        self._idle = 0
        self._open = True
        self.strict = False

    def offer(self, wanted: int, *, idle: int, window: int) -> None:
        """``wanted`` messages in all may be on their way; ``idle``: lanes that have nothing to do."""
        with self._changed:
            self._idle = idle
            self._room = max(0, wanted - self._granted)
            self._due = self._room > 0 and (idle > 0 or 2 * self._room >= window)
            if self._due:
                self._changed.notify()

    def take(self, follow_ups: int = 0) -> int:
        """Settling thread: all room there is, unless it is the receiving thread's to wait for work; then as much as it
        is about to publish for its own queues and idle lanes can take."""
        with self._changed:
            if not self._idle:
                return self._grant()
            if not self._open or not follow_ups:
                return 0
            granted = min(follow_ups, self._idle, self._room if self.strict else follow_ups)
            self._room = max(0, self._room - granted)
            self._granted += granted
            return granted

    def await_room(self, timeout: float) -> int:
        """Receiving thread: room, once it is worth a round trip of its own; 0 after ``timeout`` seconds."""
        with self._changed:
            if self._open and not self._due:
                self._changed.wait(timeout)
            return self._grant() if self._open and self._due else 0

    def give_back(self, granted: int) -> None:
        """The claim for which ``granted`` was taken has been answered."""
        with self._changed:
            self._granted -= granted

    def close(self) -> None:
        """Offer nothing any more."""
        with self._changed:
            self._open = False
            self._room = 0
            self._changed.notify_all()

    def _grant(self) -> int:
        room = self._room if self._open else 0
        self._room = 0
        self._due = False
        self._granted += room
        return room
