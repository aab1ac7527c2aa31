"""Gates: what all workers share may keep a delivery from being run now, although the message itself is well.

Limits and revocations ask a store, so gates are passed in the link's threads, without the flow's lock and with many
deliveries at a time. A worker none of whose tasks is concerned has no gates, and pays nothing for them.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Protocol

from umbel.brokers.base import Action, Delivery, Settlement
from umbel.errors import UmbelError

if TYPE_CHECKING:
    from umbel.message import Message
    from umbel.worker.link import Ending

logger = logging.getLogger("umbel.worker.gates")

STORE_PAUSE = 1.0
"""Seconds for which a delivery is put off when a gate cannot decide."""


_FINAL = (Action.ACK, Action.DEAD_LETTER)


class Gate(Protocol):
    """One reason to put off or refuse deliveries. Called by several threads."""

    def judge(self, deliveries: Sequence[Delivery]) -> Mapping[int, Settlement]:
        """What is to be done instead of running them, by ``id(delivery)``; those that are not named may run.

        May take a round trip to a store. Raises UmbelError when it cannot decide.
        """
        ...

    def leave(self, messages: Sequence[Message]) -> None:
        """These were let through before, and what became of them here is settled: ended, given back, or stopped by a
        gate behind this one. Must be harmless for messages that this gate does not concern. Raises UmbelError."""
        ...


class Gates:
    """All gates of a worker, in the order in which deliveries pass them."""

    def __init__(self, gates: Iterable[Gate] = ()) -> None:
        self._gates = list(gates)
        self._over: list[Callable[[Sequence[Message]], None]] = []

    def __bool__(self) -> bool:
        return bool(self._gates)

    def add(self, gate: Gate) -> None:
        """Put one behind the others."""
        self._gates.append(gate)

    def put_first(self, gate: Gate) -> None:
        """Put one before the others, or leave it there; at any time, if its ``leave`` does nothing."""
        if gate not in self._gates:
            self._gates = [gate, *self._gates]

    def remove(self, gate: Gate) -> None:
        """Take one out that was put first."""
        if gate in self._gates:
            self._gates = [each for each in self._gates if each is not gate]

    def judge(self, deliveries: Iterable[Delivery]) -> dict[int, Settlement]:
        """What is to be done instead of running deliveries, by their ``id``. May take several round trips."""
        verdicts: dict[int, Settlement] = {}
        through = list(deliveries)
        gates = self._gates
        for at, gate in enumerate(gates):
            if not through:
                break
            try:
                stopped = gate.judge(through)
            except UmbelError as error:
                logger.warning("whether tasks may run cannot be told, they are put off: %s", error)
                stopped = {id(each): Settlement(each, Action.REQUEUE, delay=STORE_PAUSE) for each in through}
            if stopped:
                verdicts |= stopped
                _leave(gates[:at], [each.message for each in through if id(each) in stopped])
                through = [each for each in through if id(each) not in stopped]
        return verdicts

    def leave(self, messages: Sequence[Message]) -> None:
        """See ``Gate.leave``."""
        _leave(self._gates, messages)

    def settled(self, ending: Ending, stale: Sequence[Settlement]) -> None:
        """Tell of what has left, and of what is over, now that ``ending`` was settled except for the ``stale`` ones."""
        refused = {id(settlement) for settlement in stale}
        over = ending.over + [
            settlement.delivery.message
            for settlement in ending.settlements
            if settlement.action in _FINAL
            and id(settlement) not in refused
            and not goes_on(settlement.delivery.message, settlement.publish)
        ]
        if ending.left:
            self.leave(ending.left)
        if over:
            self.over(over)

    def when_over(self, tell: Callable[[Sequence[Message]], None]) -> None:
        """Call ``tell`` with tasks that came to their end: run, refused or dead-lettered, not to be delivered again.
        It may raise UmbelError. To be said before the worker claims anything."""
        self._over.append(tell)

    def over(self, messages: Sequence[Message]) -> None:
        """See ``when_over``."""
        for tell in self._over:
            try:
                tell(messages)
            except UmbelError as error:
                logger.warning("the end of %d tasks could not be told: %s", len(messages), error)


def _leave(gates: Iterable[Gate], messages: Sequence[Message]) -> None:
    for gate in gates:
        try:
            gate.leave(messages)
        except UmbelError as error:
            logger.warning("the end of %d tasks could not be told to a limit: %s", len(messages), error)


def goes_on(message: Message, publish: Iterable[Message]) -> bool:
    """Whether the same task is sent again: a retry."""
    return any(each.id == message.id for each in publish)
