"""One claimed message on its way through the worker."""

from __future__ import annotations

from umbel.brokers.base import Delivery
from umbel.message import Message


class Job:
    """``number`` names it in packets and on the board; ``estimate`` is its expected duration in seconds.

    ``acknowledged``: it was acknowledged before it began (at most once), so there is nothing left to settle but the
    result. ``lost``: the hold on its message was lost; what it brings does not count unless it is delivered again.
    """

    __slots__ = ("acknowledged", "delivery", "estimate", "lost", "number")

    def __init__(self, number: int, delivery: Delivery, estimate: float) -> None:
        self.number = number
        self.delivery = delivery
        self.estimate = estimate
        self.acknowledged = False
        self.lost = False

    @property
    def message(self) -> Message:
        return self.delivery.message
