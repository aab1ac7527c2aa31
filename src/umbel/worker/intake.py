"""Admission: what is to be done with a delivery before any executor sees it."""

from __future__ import annotations

import datetime
from typing import TYPE_CHECKING

from umbel.backends.base import Meta, Part, Result
from umbel.brokers.base import Action, Delivery, Settlement
from umbel.canvas.members import lost_parts
from umbel.codecs.exceptions import encode_exception
from umbel.errors import EncodeError, TaskRevokedError, UmbelError, WorkerLostError
from umbel.message import Message, decode_headers, now
from umbel.protocol1 import upgrade_protocol1

if TYPE_CHECKING:
    from umbel.app import Umbel

Consequences = tuple[Result | None, tuple[Part, ...]]

REVOKED = "revoked"
"""``Settlement.reason`` of tasks that are not run because they were revoked."""

SOON = 0.01
"""Seconds of remaining delay that are not worth another way through the broker."""


class Intake:
    """Judges deliveries. Everything that is not to be run ends in a settlement, so nothing is dropped."""

    def __init__(self, app: Umbel, delivery_limit: int) -> None:
        self.app = app
        self.delivery_limit = delivery_limit

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
            result, parts = self.failure(delivery, times)
            return Settlement(delivery, Action.DEAD_LETTER, reason=times, result=result, parts=parts)
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
        result, parts = self.consequences(delivery.message, "FAILURE", error)
        return Settlement(delivery, Action.DEAD_LETTER, reason=str(error), result=result, parts=parts)

    def duplicate(self, delivery: Delivery, owner: str) -> Settlement:
        """A call of a unique task is not run, and stored as REVOKED, when the task ``owner`` has its key."""
        reason = f"the unique key belongs to task {owner}"
        return self._ended(delivery, reason, reason)

    def _expired(self, delivery: Delivery) -> Settlement:
        return self._ended(delivery, "expired", "")

    def _ended(self, delivery: Delivery, text: str, reason: str) -> Settlement:
        result, parts = self.consequences(delivery.message, "REVOKED", TaskRevokedError(text))
        return Settlement(delivery, reason=reason, result=result, parts=parts)

    def consequences(self, message: Message, state: str, error: Exception) -> Consequences:
        """The result of a task that ends in ``state`` without an executor, and what it means for its chords."""
        return self._result(message, state, error), lost_parts(self.app, message, error)

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
