"""Delivering what landed while a consumer waited, before the server has been told under which tag it is held.

The message is in the answer of the wait already; telling the server costs no waiting, because its answer is read by
the next call. A settlement waits for that answer, so that the hold is there when it ends.
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
    """A call of ``ADOPT``. Its answer is still to be read from ``link``, after ``before`` others; without a link it
    is to be repeated."""

    command: bytes
    link: Link | None
    before: int


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

        Where the server cannot be told now, ``finish`` tells it: it may have heard of it all the same.
        """
        landed = wakes.landed[:limit]
        tags = [f"{index}:{first + number}" for number, (index, _) in enumerate(landed)]
        arguments: list[Any] = [lease.head[0], lease.head[2], lease.id, len(landed)]
        for tag, (index, envelope) in zip(tags, landed, strict=True):
            arguments += (tag, lease.landings[index], hashlib.sha1(envelope, usedforsecurity=False).hexdigest())
        for index in wakes.landable:
            arguments += (lease.landings[index], self._lists[index].key)
        command = ADOPT.pack(arguments)
        before = wakes.unblock()
        link: Link | None = None
        try:
            link = self._links.take()
            link.begin([command], ANSWER_TIMEOUT, before)
        except OperationalError as error:
            logger.debug("what landed is adopted later: %s", error)
            wakes.reset()
            link = None
        self._call = _Call(command, link, len(before))
        self._unconcluded = True
        return [
            read_delivery(tag, self._lists[index].queue, envelope)
            for tag, (index, envelope) in zip(tags, landed, strict=True)
        ]

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
            if link is None:
                link = self._links.take()
                call.before = 0
                link.begin([call.command], ANSWER_TIMEOUT, ())
            try:
                link.finish(ADOPT, [call.command], ANSWER_TIMEOUT, call.before)
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
