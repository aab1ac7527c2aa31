"""``apps.ledger`` with consumers that hear nothing, as after a reconnect that went wrong: DEAF_LINKS says how many."""

from __future__ import annotations

import itertools
import os
import threading
from collections.abc import Sequence
from typing import Any

from apps.ledger import app
from umbel.brokers.base import Consumer, Delivery, Settled, Settlement

_made = itertools.count()
_consumer = app.broker.consumer


def consumer(*args: Any, **kwargs: Any) -> Consumer:
    made = _consumer(*args, **kwargs)
    if next(_made) < int(os.environ["DEAF_LINKS"]):
        deafen(made)
    return made


def deafen(made: Any) -> None:
    interrupted = threading.Event()
    settle, interrupt = made.settle, made.interrupt

    def hear_nothing(limit: int, timeout: float) -> list[Delivery]:
        interrupted.wait(timeout)
        return []

    def settle_only(settlements: Sequence[Settlement], want: int = 0) -> Settled:
        return settle(settlements)

    def wake() -> None:
        interrupted.set()
        interrupt()

    made.receive, made.settle, made.interrupt = hear_nothing, settle_only, wake


app.broker.consumer = consumer
