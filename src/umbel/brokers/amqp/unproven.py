"""Settlements that the broker was told of, and has not confirmed to have seen.

AMQP does not confirm acknowledgements. When a connection breaks right after one, the message may come again although
its task has run. Where it comes to the same consumer, it is ended once more instead.
"""

from __future__ import annotations

from collections import OrderedDict, deque
from collections.abc import Collection, Sequence

from umbel.brokers.base import Action, Delivery, Settlement
from umbel.message import Message

_MOST_REMEMBERED = 10_000


class Unproven:
    """Acknowledgements of the present connection by the question that was asked after them, see ``Intake``.

    ``lost``: messages whose acknowledgement may have been lost with an earlier connection, by task id.
    """

    def __init__(self) -> None:
        self._waiting: deque[tuple[int, list[Message]]] = deque()
        self.lost: OrderedDict[str, Message] = OrderedDict()

    def add(self, question: int, answered: int, settled: Sequence[Settlement], stale: Collection[Settlement]) -> None:
        """What was acknowledged before ``question``; ``answered`` is the last question that has been."""
        waiting = self._waiting
        while waiting and waiting[0][0] <= answered:
            waiting.popleft()
        refused = {id(settlement) for settlement in stale}
        messages = [
            settlement.delivery.message
            for settlement in settled
            if settlement.action is Action.ACK and id(settlement) not in refused
        ]
        if messages:
            waiting.append((question, messages))

    def lose(self, answered: int) -> None:
        """The connection broke."""
        for question, messages in self._waiting:
            if question > answered:
                self.lost.update((message.id, message) for message in messages)
        self._waiting.clear()
        while len(self.lost) > _MOST_REMEMBERED:
            self.lost.popitem(last=False)

    def settled_before(self, deliveries: Sequence[Delivery]) -> list[Delivery]:
        """Which of these have been acknowledged; each is told once."""
        found: list[Delivery] = []
        for delivery in deliveries:
            before = self.lost.get(delivery.message.id)
            if before is not None and delivery.deliveries and before.headers == delivery.message.headers:
                del self.lost[delivery.message.id]
                found.append(delivery)
        return found
