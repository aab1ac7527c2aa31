"""Delivering what landed while a consumer waited, before the server has been told under which tag it is held.

The message is in the answer of the wait already, so it is delivered at once and the server is told after: by the next
claim, settlement or renewal, whichever comes first. A settlement waits for the answer, so that the hold is there when
it ends. Until then the message is in the consumer's landing place, which the lease covers too.
"""

from __future__ import annotations

import hashlib
import logging
import threading
from collections.abc import Sequence
from typing import Any

import msgspec
from msgspec import Struct

from umbel.brokers.base import Delivery
from umbel.brokers.envelope import decode_envelope
from umbel.brokers.redis_keys import Source
from umbel.brokers.redis_link import ANSWER_TIMEOUT, Link, Links
from umbel.brokers.redis_scripts import ADOPT
from umbel.brokers.redis_wake import Wakes
from umbel.errors import InvalidTaskError, OperationalError
from umbel.message import Message

logger = logging.getLogger(__name__)


class Lease(Struct, frozen=True):
    """One lease of a consumer, and the arguments that every script call under it begins with."""

    id: str
    head: tuple[str, str, str, str]
    landings: tuple[str, ...]


class _Call(Struct):
    """A call of ``ADOPT``: its arguments, and the commands that go before it. Once it is sent its answer is still to
    be read from ``link``."""

    arguments: list[Any]
    before: Sequence[bytes]
    link: Link | None = None


class Adoption:
    """At most one adoption on its way. ``begin`` and ``conclude`` belong to the receiving thread."""

    def __init__(self, links: Links, lists: Sequence[Source]) -> None:
        self._links = links
        self._lists = lists
        self._lock = threading.Lock()
        self._call: _Call | None = None
        self._unconcluded = False

    def begin(self, lease: Lease, wakes: Wakes, limit: int, first: int) -> list[Delivery]:
        """Deliver what landed, with tags from ``first`` on; what is beyond ``limit`` goes back, and all waits end.

        Waits at other queues end now, before they land more here; else the server is told later.
        """
        landed = wakes.landed[:limit]
        tags = [f"{index}:{first + number}" for number, (index, _) in enumerate(landed)]
        arguments: list[Any] = [lease.head[0], lease.head[2], lease.id, len(landed)]
        for tag, (index, envelope) in zip(tags, landed, strict=True):
            arguments += (tag, lease.landings[index], hashlib.sha1(envelope, usedforsecurity=False).hexdigest())
        for index in wakes.landable:
            arguments += (lease.landings[index], self._lists[index].key)
        call = _Call(arguments, wakes.unblock())
        if call.before or len(wakes.landed) > limit:
            self._send_now(call, wakes)
        self._call = call
        self._unconcluded = True
        return [
            read_delivery(tag, self._lists[index].queue, envelope)
            for tag, (index, envelope) in zip(tags, landed, strict=True)
        ]

    def _send_now(self, call: _Call, wakes: Wakes) -> None:
        """Where the server cannot be told, ``finish`` tells it; it may have heard of it all the same."""
        try:
            call.link = self._links.take()
            call.link.begin([ADOPT.pack(call.arguments)], ANSWER_TIMEOUT, call.before)
        except OperationalError as error:
            logger.debug("what landed is adopted later: %s", error)
            wakes.reset()
            call.link = None

    def finish(self) -> None:
        """Make sure that what was delivered is held. May be repeated. Raises OperationalError, BrokerError."""
        if self._call is None:
            return
        with self._lock:
            call = self._call
            if call is None:  # pyright: ignore[reportUnnecessaryComparison] - another thread was here first
                return
            link, call.link = call.link, None
            generation = self._links.generation
            command = ADOPT.pack(call.arguments)
            before = call.before if link is not None else ()
            if link is None:
                link = self._links.take()
                link.begin([command], ANSWER_TIMEOUT, ())
            try:
                link.finish(ADOPT, [command], ANSWER_TIMEOUT, len(before))
                self._call = None
            finally:
                self._links.give(link, generation)

    def conclude(self, wakes: Wakes) -> None:
        """``finish``, and read the answers of the waits that ended with it. Raises as ``finish``."""
        self.finish()
        if self._unconcluded:
            self._unconcluded = False
            wakes.collect()
            wakes.adopted()

    def drop(self) -> None:
        """The lease is lost, and with it what was to be adopted."""
        with self._lock:
            call, self._call = self._call, None
            if call is not None and call.link is not None:
                call.link.close()


def read_delivery(tag: str, queue: str, envelope: bytes) -> Delivery:
    """The delivery of an envelope, with ``fault`` set when it cannot be read."""
    try:
        delivery = Delivery(tag, queue, decode_envelope(envelope, queue))
    except InvalidTaskError as error:
        message = Message(id="", task="", queue=queue, headers=b"{}", body=envelope.lstrip(b" "))
        delivery = Delivery(tag, queue, message, fault=str(error))
    if envelope.startswith(b" "):
        delivery.deliveries = len(envelope) - len(envelope.lstrip(b" "))
        delivery.message = msgspec.structs.replace(delivery.message, redelivered=True)
    return delivery
