"""Admission: what is to be done with a delivery before any executor sees it."""

from __future__ import annotations

import datetime
from collections.abc import Callable
from typing import TYPE_CHECKING

from msgspec import Struct

from umbel import followups
from umbel.backends.base import Meta, Part, Result
from umbel.brokers.base import Action, Delivery, Settlement
from umbel.canvas.members import lost
from umbel.codecs.exceptions import encode_exception
from umbel.errors import EncodeError, TaskRevokedError, UmbelError, WorkerLostError
from umbel.message import Message, decode_headers, now
from umbel.protocol1 import upgrade_protocol1
from umbel.request import read_request

if TYPE_CHECKING:
    from collections import deque

    from umbel.app import Umbel

REVOKED = "revoked"
"""``Settlement.reason`` of tasks that are not run because they were revoked."""

SOON = 0.01
"""Seconds of remaining delay that are not worth another way through the broker."""


class Consequences(Struct, frozen=True):
    """What the end of a task means that ended without an executor: as of a :class:`Settlement`."""

    result: Result | None
    parts: tuple[Part, ...] = ()
    publish: tuple[Message, ...] = ()
    fallout: tuple[Result, ...] = ()

    def settlement(self, delivery: Delivery, action: Action = Action.ACK, reason: str = "") -> Settlement:
        return Settlement(
            delivery,
            action,
            reason=reason,
            result=self.result,
            publish=self.publish,
            parts=self.parts,
            fallout=self.fallout,
        )


class Intake:
    """Judges deliveries. Everything that is not to be run ends in a settlement, so nothing is dropped.

    ``later`` gets calls of error callbacks that are to be made without the flow's lock.
    """

    def __init__(self, app: Umbel, delivery_limit: int, later: deque[Callable[[], object]]) -> None:
        self.app = app
        self.delivery_limit = delivery_limit
        self._later = later

    def judge(self, delivery: Delivery) -> Settlement | None:
        """None: run it. May replace ``delivery.message`` by its protocol-2 form."""
        message = delivery.message
        if delivery.fault:
            return Settlement(delivery, Action.DEAD_LETTER, reason=f"unreadable message: {delivery.fault}")
        if not message.task:
            try:
                delivery.message = message = upgrade_protocol1(message, self.app.conf.accept_content)
            except UmbelError as error:
                return Settlement(delivery, Action.DEAD_LETTER, reason=f"unreadable message: {error}")
        if message.expires is not None and message.expires < now():
            return self._expired(delivery)
        if message.eta is not None and (delay := message.eta - now()) > SOON:
            return Settlement(delivery, Action.REQUEUE, delay=delay)
        if delivery.deliveries >= self.delivery_limit:
            times = f"delivered {delivery.deliveries} times without coming to an end"
            return self.failure(delivery, times).settlement(delivery, Action.DEAD_LETTER, times)
        if message.task not in self.app.tasks:
            return Settlement(delivery, Action.PARK)
        return None

    def failure(self, delivery: Delivery, reason: str) -> Consequences:
        """What is stored of a task whose process was lost."""
        return self.consequences(delivery.message, "FAILURE", WorkerLostError(reason))

    def unreadable(self, delivery: Delivery, reason: str) -> Consequences:
        """What is stored of a task whose outcome cannot be read."""
        return self.consequences(delivery.message, "FAILURE", EncodeError(reason))

    def revoked(self, delivery: Delivery) -> Settlement:
        """The end of a task that is not run because it was revoked."""
        return self._ended(delivery, REVOKED, REVOKED)

    def refused(self, delivery: Delivery, error: Exception) -> Settlement:
        """A task that cannot be run for this reason is dead-lettered, so that it can be replayed, and stored as
        FAILURE."""
        return self.consequences(delivery.message, "FAILURE", error).settlement(
            delivery, Action.DEAD_LETTER, str(error)
        )

    def duplicate(self, delivery: Delivery, owner: str) -> Settlement:
        """A call of a unique task is not run, and stored as REVOKED, when the task ``owner`` has its key."""
        reason = f"the unique key belongs to task {owner}"
        return self._ended(delivery, reason, reason)

    def _expired(self, delivery: Delivery) -> Settlement:
        return self._ended(delivery, "expired", "")

    def _ended(self, delivery: Delivery, text: str, reason: str) -> Settlement:
        return self.consequences(delivery.message, "REVOKED", TaskRevokedError(text)).settlement(
            delivery, reason=reason
        )

    def consequences(self, message: Message, state: str, error: Exception) -> Consequences:
        """The result of a task that ends in ``state`` without an executor, and what it means for its chords and for
        what was to follow. Its error callbacks are called where it failed, as Celery does, and not where it was
        revoked."""
        found = lost(self.app, message, error)
        publish: tuple[Message, ...] = ()
        if found.errbacks and state == "FAILURE":
            request = read_request(message)
            request.id, request.errbacks = found.failed or message.id, list(found.errbacks)
            calls: list[Callable[[], object]] = []
            publish = followups.after_failure(self.app, request, error, "", calls)
            self._later.extend(calls)
        return Consequences(self._result(message, state, error), found.parts, publish, found.results)

    def _result(self, message: Message, state: str, error: Exception) -> Result | None:
        backend = self.app.backend
        headers = decode_headers(message.headers)
        if backend.features.knows_nothing or headers.get("ignore_result"):
            return None
        meta = Meta(
            task_id=message.id,
            status=state,
            result=encode_exception(error, backend.options.serializer),
            date_done=datetime.datetime.fromtimestamp(now(), datetime.UTC).isoformat(),
            group_id=headers.get("group"),
            parent_id=headers.get("parent_id"),
        )
        return backend.encode(meta, reply_to=message.reply_to, correlation_id=message.correlation_id)
