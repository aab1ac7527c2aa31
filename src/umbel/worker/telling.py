"""The signals that the supervisor sends about messages: what was received, refused, lost, published; and its heartbeat.

Receivers are code of users, so none is called under the flow's lock: what is noted there is told after it.
"""

from __future__ import annotations

import logging
import threading
from collections import deque
from collections.abc import Callable, Collection, Iterable
from typing import TYPE_CHECKING

from umbel.announcing import after_publish
from umbel.brokers.base import Action, Delivery, Settlement
from umbel.codecs import loads
from umbel.errors import InvalidTaskError, NotRegistered, UmbelError, WorkerLostError
from umbel.failures import ExceptionInfo
from umbel.message import Message
from umbel.reading import body_parts
from umbel.request import Request, read_request
from umbel.signals import heartbeat_sent, task_failure, task_received, task_rejected, task_revoked, task_unknown

if TYPE_CHECKING:
    from umbel.app import Umbel
    from umbel.worker.link import Ending

logger = logging.getLogger("umbel.signals")


class Telling:
    """Sends signals for one worker. ``sender``: the worker. ``due``: what ``tell`` is to do."""

    def __init__(self, app: Umbel, sender: object) -> None:
        self.app = app
        self.sender = sender
        self.due: deque[Callable[[], object]] = deque()
        self._heartbeat: threading.Thread | None = None

    def tell(self) -> None:
        """Call the receivers of everything noted; any thread, without the flow's lock."""
        while self.due:
            try:
                call = self.due.popleft()
            except IndexError:
                return  # another thread told it
            try:
                call()
            except UmbelError:
                logger.exception("a message cannot be shown to the receivers of a signal")

    def received(self, deliveries: Iterable[Delivery]) -> None:
        """These are to be run by this worker."""
        for delivery in deliveries:
            try:
                request = self._request(delivery.message)
            except UmbelError:
                continue  # the executor will find the same, and send task_rejected
            task_received.send(sender=self.sender, request=request)

    def not_run(self, settlement: Settlement) -> None:
        """Note what became of a delivery before any executor saw it."""
        delivery, action = settlement.delivery, settlement.action
        message = delivery.message
        if action is Action.PARK and task_unknown.receivers:
            call = {"name": message.task, "id": message.id, "message": message}
            self.due.append(lambda: task_unknown.send(sender=self.sender, **call, exc=NotRegistered(message.task)))
        elif action is Action.DEAD_LETTER and message.task and not delivery.fault:
            self.lost(message, settlement.reason)
        elif action is Action.DEAD_LETTER and task_rejected.receivers:
            error = InvalidTaskError(settlement.reason)
            self.due.append(lambda: task_rejected.send(sender=self.sender, message=message, exc=error))
        elif action is Action.ACK and task_revoked.receivers:
            expired = not settlement.reason
            self.due.append(lambda: self._revoked(message, expired))

    def lost(self, message: Message, reason: str) -> None:
        """Note that a task failed because the processes that ran it died."""
        if task_failure.receivers:
            self.due.append(lambda: self._lost(message, reason))

    def published(self, ending: Ending, stale: Collection[Settlement]) -> None:
        """These messages went out with the end of tasks, except for those of ``stale`` settlements."""
        refused = {id(settlement) for settlement in stale}
        messages = list(ending.publish)
        for settlement in ending.settlements:
            if id(settlement) not in refused:
                messages += settlement.publish
        after_publish(messages)

    def heartbeat(self) -> None:
        """Send ``heartbeat_sent`` from a thread of its own, so that no receiver keeps the lease from being renewed;
        left out while the last one is still being received."""
        if self._heartbeat is None or not self._heartbeat.is_alive():
            self._heartbeat = threading.Thread(
                target=heartbeat_sent.send, args=(self.sender,), name="umbel-heartbeat", daemon=True
            )
            self._heartbeat.start()

    def close(self) -> None:
        if self._heartbeat is not None:
            self._heartbeat.join(1.0)

    def _revoked(self, message: Message, expired: bool) -> None:
        task = self.app.tasks.get(message.task)
        request = self._request(message)
        call = {"request": request, "terminated": False, "signum": None, "expired": expired}
        task_revoked.send(sender=task or message.task, **call)

    def _lost(self, message: Message, reason: str) -> None:
        request, error = self._request(message), WorkerLostError(reason)
        task_failure.send(
            sender=self.app.tasks.get(message.task) or message.task,
            task_id=message.id,
            exception=error,
            args=request.args,
            kwargs=request.kwargs,
            traceback=None,
            einfo=ExceptionInfo(error, ""),
        )

    def _request(self, message: Message) -> Request:
        """The request with its arguments, under the names of Celery's worker requests too. Raises UmbelError."""
        request = read_request(message)
        compression = request.compression
        body = loads(message.body, message.content_type, message.content_encoding, self.app.accept(), compression)
        request.args, request.kwargs, _ = body_parts(body)
        request.hostname = getattr(self.sender, "hostname", None)
        request.update(name=message.task, task_name=message.task, task_id=message.id)
        return request
