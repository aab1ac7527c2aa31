"""Hearing remote control commands: the worker's end of Celery's ``pidbox`` exchange.

Commands that only speed up what is noted elsewhere, so one that is missed while the connection is made anew is no
harm. Commands that are not known here are left to others.
"""

from __future__ import annotations

import asyncio
import fnmatch
import logging
import re
import threading
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import msgspec
from msgspec import Struct, field

from umbel.bootsteps import StartStopStep
from umbel.codecs import loads
from umbel.control import pidbox
from umbel.errors import BrokerError, DecodeError, OperationalError, UmbelError
from umbel.revocations import Key, ids_of, signal_name, stamps_in
from umbel.worker.revocations import Revoking

if TYPE_CHECKING:
    from umbel.app import Umbel
    from umbel.brokers.base import Listener, Note
    from umbel.worker.consumer import WorkerConsumer

logger = logging.getLogger("umbel.worker.remote")

_WAIT = 1.0
_RETRY = 1.0


class Command(Struct, frozen=True):
    """A remote control command, as it travels. ``destination``: node names; ``pattern`` and ``matcher``: of those
    that are meant where no names are given."""

    method: str
    arguments: Mapping[str, Any] = field(default_factory=dict[str, Any])
    destination: tuple[str, ...] | None = None
    pattern: str | None = None
    matcher: str | None = None

    @property
    def limited(self) -> bool:
        """Whether it is not for every worker."""
        return bool(self.destination or (self.pattern and self.matcher))

    def concerns(self, node: str) -> bool:
        """Whether the worker of this node name is meant."""
        if self.destination:
            return node in self.destination
        if not (self.pattern and self.matcher):
            return True
        if self.matcher == "glob":
            return fnmatch.fnmatch(node, self.pattern)
        return self.matcher == "pcre" and re.match(self.pattern, node) is not None


def read_command(app: Umbel, note: Note) -> Command:
    """The command in a note. Raises DecodeError when there is none, ContentDisallowed."""
    body = loads(note.body, note.content_type, note.content_encoding, app.accept())
    try:
        return msgspec.convert(body, Command)
    except msgspec.ValidationError as error:
        raise DecodeError(f"not a remote control command: {error}") from error


class RemoteControl(StartStopStep):
    """Listens in a thread of its own, unless ``worker_enable_remote_control`` is off."""

    blueprint = "consumer"
    requires = (Revoking,)
    conditional = True

    def __init__(self, consumer: WorkerConsumer, **options: Any) -> None:
        super().__init__(consumer, **options)
        self.enabled = consumer.app.conf.worker_enable_remote_control
        self._app = consumer.app
        self._worker = consumer.controller
        self._stopping = threading.Event()
        self._thread: threading.Thread | None = None
        self._listener: Listener | None = None

    async def start(self, consumer: WorkerConsumer) -> None:
        self._stopping.clear()
        self._thread = threading.Thread(target=self._listen, name="umbel-remote", daemon=True)
        self._thread.start()

    async def close(self, consumer: WorkerConsumer) -> None:
        await self.stop(consumer)

    async def stop(self, consumer: WorkerConsumer) -> None:
        thread, self._thread = self._thread, None
        if thread is not None:
            self._stopping.set()
            await asyncio.to_thread(self._end, thread)

    def _end(self, thread: threading.Thread) -> None:
        if self._listener is not None:
            try:
                self._listener.close()
            except UmbelError as error:
                logger.debug("the subscription to remote control was not ended: %s", error)
        thread.join(2 * _WAIT)
        self._listener = None

    def _listen(self) -> None:
        exchange = pidbox(self._app)
        while not self._stopping.is_set():
            try:
                listener = self._listener
                if listener is None:
                    listener = self._listener = self._app.broker.listen(exchange)
                    logger.debug("remote control is heard", extra={"data": {"exchange": exchange}})
                for note in listener.receive(_WAIT):
                    self._hear(note)
            except OperationalError as error:
                logger.debug("remote control is not heard for now: %s", error)
                self._stopping.wait(_RETRY)
            except BrokerError as error:
                logger.warning("the broker does not let this worker listen to remote control: %s", error)
                return

    def _hear(self, note: Note) -> None:
        try:
            command = read_command(self._app, note)
            if command.concerns(self._worker.hostname):
                self._obey(command)
        except (UmbelError, re.error) as error:
            logger.warning("a remote control command failed: %s", error)

    def _obey(self, command: Command) -> None:
        """Do what is known here. Raises UmbelError."""
        arguments = command.arguments
        logger.debug("remote control command", extra={"data": {"method": command.method}})
        if command.method in ("revoke", "terminate"):
            self._revoke(command, ids_of(arguments.get("task_id")))
        elif command.method == "revoke_by_stamped_headers":
            self._revoke(command, stamps_in(arguments.get("headers")))

    def _revoke(self, command: Command, names: Sequence[Key]) -> None:
        terminate = command.method == "terminate" or command.arguments.get("terminate")
        signal = signal_name(command.arguments.get("signal")) if terminate else ""
        self._worker.revoked.hear(names, signal, alone=command.limited)
