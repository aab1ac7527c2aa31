"""``worker_deduplicate_successful_tasks``: a task that came back although its success is stored does not run again.

That happens where results are stored apart from the broker, and the worker was lost between storing and acknowledging.
What was to follow is sent from the stored value, since it may not have been sent.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from umbel import followups
from umbel.brokers.base import Delivery, Settlement
from umbel.canvas.members import part_of
from umbel.current import pop_request, push_request
from umbel.errors import UmbelError
from umbel.reading import read_call

if TYPE_CHECKING:
    from umbel.app import Umbel
    from umbel.backends.base import Meta
    from umbel.message import Message

logger = logging.getLogger("umbel.worker")


class DoneBefore:
    """See ``worker.gates.Gate``. Asks the result store for deliveries that were delivered before, in one round trip."""

    def __init__(self, app: Umbel) -> None:
        self._app = app

    def judge(self, deliveries: Sequence[Delivery]) -> Mapping[int, Settlement]:
        again = [delivery for delivery in deliveries if delivery.deliveries]
        if not again:
            return {}
        known = self._app.backend.get([delivery.message.id for delivery in again])
        verdicts: dict[int, Settlement] = {}
        for delivery in again:
            meta = known.get(delivery.message.id)
            if meta is not None and meta.status == "SUCCESS" and (end := self._end(delivery, meta)) is not None:
                verdicts[id(delivery)] = end
        return verdicts

    def _end(self, delivery: Delivery, meta: Meta) -> Settlement | None:
        """The settlement of a task that has succeeded; None where what follows cannot be told: it runs again."""
        message = delivery.message
        try:
            _, request, _, _ = read_call(self._app, message)
            token = push_request(request)
            try:
                publish = followups.after_success(self._app, request, meta.result)
                parts = part_of(self._app, request, "SUCCESS", meta.result) if request.chord else ()
            finally:
                pop_request(token)
        except UmbelError as error:
            logger.warning("a task that has succeeded runs again: task=%s id=%s %s", message.task, message.id, error)
            return None
        logger.info("not run again, it has succeeded: task=%s id=%s", message.task, message.id)
        return Settlement(delivery, publish=publish, parts=parts)

    def leave(self, messages: Sequence[Message]) -> None:
        """Nothing is kept for those that pass."""
