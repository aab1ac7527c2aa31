"""One claimed message on its way through the worker."""

from __future__ import annotations

from msgspec import Struct

from umbel.brokers.base import Delivery
from umbel.message import Message


class Job(Struct, eq=False, gc=False):
    """``number`` names it in packets and on the board; ``estimate`` is its expected duration in seconds.

    ``acknowledged``: it was acknowledged before it began (at most once), so there is nothing left to settle but the
    result. ``lost``: the hold on its message was lost; what it brings does not count unless it is delivered again.
    ``hard``, ``soft``: its time limits in seconds. ``size``: bytes of headers and body.
    """

    number: int
    delivery: Delivery
    estimate: float
    size: int = 0
    acknowledged: bool = False
    lost: bool = False
    hard: float | None = None
    soft: float | None = None

    @property
    def message(self) -> Message:
        return self.delivery.message
