"""Connections that are cut again and again, each after a random number of bytes."""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

from proxy import Direction, TCPProxy
from workers import wait_for

DIRECTIONS: tuple[Direction, ...] = ("up", "down")


class Shears:
    """Cuts the connections of ``proxy``; ``moments``: when it did (Unix time in seconds)."""

    def __init__(self, proxy: TCPProxy, dice: random.Random, most: int) -> None:
        """``most``: bytes after which a cut comes at the latest."""
        self.proxy = proxy
        self.dice = dice
        self.most = most
        self.moments: list[float] = []

    @contextmanager
    def cutting(self, pause: float = 0.0) -> Iterator[None]:
        """Cut, heal, and cut again while the block runs, ``pause`` seconds apart at least."""
        stop = threading.Event()

        def loop() -> None:
            while not stop.wait(pause):
                self._cut(stop)

        thread = threading.Thread(target=loop, name="shears", daemon=True)
        thread.start()
        try:
            yield
        finally:
            stop.set()
            thread.join(10)
            self.proxy.heal()

    def _cut(self, stop: threading.Event) -> None:
        accepted, connections = self.proxy.accepted, self.proxy.connections
        self.proxy.cut_after(self.dice.randrange(1, self.most), self.dice.choice(DIRECTIONS))

        def was_cut() -> bool:
            return self.proxy.accepted > accepted or self.proxy.connections < connections

        wait_for(lambda: was_cut() or stop.is_set(), 60, "a connection to cut")
        if was_cut():
            self.moments.append(time.time())
        self.proxy.heal()
