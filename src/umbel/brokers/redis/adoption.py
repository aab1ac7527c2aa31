"""Delivering what landed while a consumer waited, before the server has been told under which tag it is held.

The message is in the answer of the wait already, so it is delivered at once and the server is told after: at best by
the very settlement that ends it, in one step with that; else before the next claim, by the next renewal, or when the
consumer has waited for ``SOON``. Until then the message is in the consumer's landing place, which the lease covers too.
"""

from __future__ import annotations

import hashlib
import logging
import threading
from collections.abc import Callable, Sequence
from typing import TypeVar

import msgspec
from msgspec import Struct

from umbel.brokers.base import Delivery
from umbel.brokers.envelope import decode_envelope
from umbel.brokers.redis.keys import Source
from umbel.brokers.redis.link import Call, Link, Links
from umbel.brokers.redis.scripts import ADOPT
from umbel.brokers.redis.wake import Wakes
from umbel.errors import InvalidTaskError, OperationalError
from umbel.message import Message

logger = logging.getLogger(__name__)

T = TypeVar("T")

SOON = 0.02
"""Seconds after which a consumer that waits tells the server of what it was given before: a task that ends in less time
is adopted by its settlement."""


class Lease(Struct, frozen=True):
    """One lease of a consumer, and the arguments that every script call under it begins with."""

    id: str
    head: tuple[str, str, str, str]
    landings: tuple[str, ...]


class Landed(Struct, eq=False):
    """What was delivered before it was adopted: triples of tag, landing place and SHA-1, and pairs of landing places
    and the lists to which all else there goes back. ``before``: commands that end waits. Once ``ADOPT`` was called for
    it, it was ``asked``, and the answer is still to be read from ``link``."""

    lease: Lease
    adopted: list[str]
    given_back: list[str]
    before: Sequence[bytes]
    link: Link | None = None
    asked: bool = False

    def adopt(self) -> Call:
        """The call of ``ADOPT``."""
        consumers, _, held, id = self.lease.head
        self.asked = True
        arguments = [consumers, held, id, len(self.adopted) // 3, *self.adopted, *self.given_back]
        return Call(ADOPT, arguments)


class Adoption:
    """At most one adoption on its way. ``begin`` and ``conclude`` belong to the receiving thread."""

    def __init__(self, links: Links, lists: Sequence[Source]) -> None:
        self._links = links
        self._lists = lists
        self._lock = threading.Lock()
        self._landed: Landed | None = None
        self._unconcluded = False

    @property
    def deferred(self) -> bool:
        """Whether the server is still to be told something, and nothing hurries."""
        return self._landed is not None and not self._unconcluded

    def begin(self, lease: Lease, wakes: Wakes, limit: int, first: int) -> list[Delivery]:
        """Deliver what landed, with tags from ``first`` on; what is beyond ``limit`` goes back, and all waits end.

        Where waits at other queues are to end, or may have landed more than is known, the server is told now.
        """
        landed = wakes.landed[:limit]
        tags = [f"{index}:{first + number}" for number, (index, _) in enumerate(landed)]
        adopted: list[str] = []
        for tag, (index, envelope) in zip(tags, landed, strict=True):
            adopted += (tag, lease.landings[index], hashlib.sha1(envelope, usedforsecurity=False).hexdigest())
        call = Landed(lease, adopted, [], wakes.unblock())
        if call.before or wakes.broke or len(wakes.landed) > limit:
            for index in wakes.landable:
                call.given_back += (lease.landings[index], self._lists[index].key)
            self._send_now(call, wakes)
            self._unconcluded = True
        self._landed = call
        return [
            read_delivery(tag, self._lists[index].queue, envelope)
            for tag, (index, envelope) in zip(tags, landed, strict=True)
        ]

    def _send_now(self, call: Landed, wakes: Wakes) -> None:
        """Where the server cannot be told, ``finish`` tells it; it may have heard of it all the same."""
        try:
            call.link = self._links.take()
            call.link.send(b"".join((*call.before, call.adopt().pack())))
        except OperationalError as error:
            logger.debug("what landed is adopted later: %s", error)
            wakes.reset()
            call.link = None

    def finish(self) -> None:
        """Make sure that what was delivered is held. May be repeated. Raises OperationalError, BrokerError."""
        if self._landed is not None:
            with self._lock:
                self._finish()

    def _finish(self) -> None:
        call = self._landed
        if call is None:
            return
        link, call.link = call.link, None
        generation = self._links.generation
        adopt = call.adopt()
        before = call.before if link is not None else ()
        if link is None:
            link = self._links.take()
            link.send(adopt.pack())
        try:
            link.answer(adopt, before=len(before))
            self._landed = None
        finally:
            self._links.give(link, generation)

    def tell(self, send: Callable[[Landed | None], T]) -> T:
        """Call ``send`` with what it is to tell the server, for which nobody else tells it meanwhile; None: nothing.

        It counts as told when ``send`` returns.
        """
        if self._landed is None:
            return send(None)
        with self._lock:
            if self._unconcluded:
                self._finish()
            landed = self._landed
            done = send(landed)
            if self._landed is landed:
                self._landed = None
            return done

    def conclude(self, wakes: Wakes) -> None:
        """``finish``, and read the answers of the waits that ended with it. Raises as ``finish``."""
        self.finish()
        if self._unconcluded:
            self._unconcluded = False
            wakes.collect()
            wakes.adopted()

    def forget(self, told: Landed) -> None:
        """The server knows of this already."""
        with self._lock:
            if self._landed is told:
                self._landed = None

    def drop(self) -> None:
        """The lease is lost, and with it what was to be adopted."""
        with self._lock:
            call, self._landed = self._landed, None
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
