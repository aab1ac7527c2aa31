"""Task messages for the suites, and taking them from a consumer."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import Any, TypeVar

from umbel.brokers.base import Action, Consumer, Delivery, Settlement
from umbel.errors import OperationalError
from umbel.message import Headers, Message, encode_headers, format_moment, new_id

T = TypeVar("T")


def make(
    queue: str,
    body: bytes = b'[[],{},{"callbacks":null,"errbacks":null,"chain":null,"chord":null}]',
    *,
    task: str = "tasks.add",
    id: str = "",
    extra: Mapping[str, Any] | None = None,
    eta: float | None = None,
    expires: float | None = None,
    **fields: Any,
) -> Message:
    """A message as a client makes it."""
    id = id or new_id()
    headers = Headers(
        task=task,
        id=id,
        root_id=id,
        eta=None if eta is None else format_moment(eta),
        expires=None if expires is None else format_moment(expires),
    )
    return Message(
        id=id,
        task=task,
        queue=queue,
        headers=encode_headers(headers, extra),
        body=body,
        eta=eta,
        expires=expires,
        **{"correlation_id": id, **fields},
    )


def many(queue: str, count: int, **fields: Any) -> list[Message]:
    """Messages whose bodies are their numbers."""
    return [make(queue, str(number).encode(), **fields) for number in range(count)]


def numbers(taken: list[Delivery] | list[Message]) -> list[int]:
    """The numbers in the bodies of messages made by :func:`many`."""
    messages = [item.message if isinstance(item, Delivery) else item for item in taken]
    return [int(message.body) for message in messages]


def take(consumer: Consumer, count: int, timeout: float = 15.0, patient: bool = False) -> list[Delivery]:
    """Receive exactly ``count``, failing after ``timeout`` seconds; ``patient``: also through broken connections."""
    taken: list[Delivery] = []
    deadline = time.monotonic() + timeout
    while len(taken) < count:
        rest = deadline - time.monotonic()
        assert rest > 0, f"only {len(taken)} of {count} came within {timeout} s"
        try:
            taken += consumer.receive(count - len(taken), min(1.0, rest))
        except OperationalError:
            if not patient:
                raise
            time.sleep(0.05)
    return taken


def take_none(consumer: Consumer, during: float = 0.3) -> None:
    """Fail if anything comes within ``during`` seconds."""
    assert consumer.receive(10, during) == []


def ack(consumer: Consumer, deliveries: list[Delivery]) -> None:
    """Acknowledge all; fail if any was refused."""
    assert consumer.settle([Settlement(delivery) for delivery in deliveries]).stale == []


def end(consumer: Consumer, delivery: Delivery, action: Action, **fields: Any) -> None:
    """Settle one; fail if it was refused."""
    assert consumer.settle([Settlement(delivery, action, **fields)]).stale == []


def drain(consumer: Consumer, quiet: float = 0.5, least: int = 0, timeout: float = 30.0) -> list[Delivery]:
    """Receive and acknowledge until nothing came for ``quiet`` seconds, and ``least`` have come or ``timeout`` seconds
    are over."""
    taken: list[Delivery] = []
    deadline = time.monotonic() + timeout
    while (batch := consumer.receive(500, quiet)) or (len(taken) < least and time.monotonic() < deadline):
        taken += batch
        if batch:
            ack(consumer, batch)
    return taken


def persist(action: Callable[[], T], timeout: float = 20.0) -> T:
    """What ``action`` returns, tried again while it raises OperationalError, as everybody does that uses a broker."""
    deadline = time.monotonic() + timeout
    while True:
        try:
            return action()
        except OperationalError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.05)
