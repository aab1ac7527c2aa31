"""``app.control``: steering workers from a client.

Only what revokes tasks is here. Commands go out as Celery's remote control messages, so that its workers hear them.
"""

from __future__ import annotations

import datetime
import logging
import time
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

import msgspec

from umbel.backends.base import Meta
from umbel.brokers.base import Note
from umbel.codecs.exceptions import encode_exception
from umbel.current import get_current_app
from umbel.errors import TaskRevokedError, UmbelError
from umbel.revocations import DEFAULT_SIGNAL, Key, Revocations, ids_of, records_of, signal_name, stamps_in

if TYPE_CHECKING:
    from umbel.app import Umbel

logger = logging.getLogger("umbel.control")

LOOK_FOR = 1.0
"""Seconds for which ``revoke`` looks where its tasks are, so that those who wait for them are told at once."""

REPLY_TIMEOUT = 1.0
"""Seconds for which ``wait=True`` waits where no time is given."""

_WAITING = frozenset({"ready", "delayed", "parked"})


def revocations_of(app: Umbel) -> Revocations | None:
    """Where the revocations of this application are kept: in the broker, else in the result store; None: nowhere."""
    return app.broker.revocations() or app.backend.revocations()


def pidbox(app: Umbel) -> str:
    """The fan-out exchange of remote control commands."""
    return f"{app.conf.control_exchange}.pidbox"


def command_note(method: str, arguments: dict[str, Any], destination: Sequence[str] | None = None) -> Note:
    """A remote control command as Celery's workers read it."""
    body = {
        "method": method,
        "arguments": arguments,
        "destination": list(destination) if destination else None,
        "pattern": None,
        "matcher": None,
    }
    return Note(msgspec.json.encode(body), {"clock": 0, "expires": 0})


class Control:
    """Remote control of one application's workers, by default of the current one's."""

    def __init__(self, app: Umbel | None = None) -> None:
        self.app = app or get_current_app()

    def purge(self, connection: object = None) -> int:
        """Remove all ready and delayed messages from the configured queues; how many. There is no way back.

        ``connection`` has no effect. Raises OperationalError.
        """
        return sum(self.app.broker.purge(queue.name) for queue in self.app.consume_queues())

    discard_all = purge

    def revoke(
        self,
        task_id: Any,
        destination: Sequence[str] | None = None,
        terminate: bool = False,
        signal: str | int | None = DEFAULT_SIGNAL,
        *,
        wait: bool = False,
        timeout: float | None = None,
    ) -> None:
        """See to it that tasks are not run: ``task_id`` is an id, or a list of them.

        It is noted durably for ``task_revoke_expires`` seconds, and told to the workers that listen. Tasks that wait
        end as REVOKED, at once where the broker can tell that they do. Those that run are left alone unless
        ``terminate``: then they are ended, in prefork pools by ``signal``. ``destination``: node names of the workers
        that are to heed it, default all. ``wait``: until the tasks have ended, for up to ``timeout`` seconds
        (default 1). Raises InvalidTaskError for what is no id or no signal, OperationalError when it cannot be noted.
        """
        ids = ids_of(task_id)
        name = signal_name(signal)
        nodes = [destination] if isinstance(destination, str) else destination
        if not ids:
            return
        self._note(ids, name if terminate else "", nodes)
        named = {"task_id": ids[0] if len(ids) == 1 else ids}
        self._broadcast("revoke", {**named, "terminate": terminate, "signal": name}, nodes)
        if not nodes:
            self._answer(ids)
        if wait:
            self._wait(ids, REPLY_TIMEOUT if timeout is None else timeout)

    def terminate(
        self, task_id: Any, destination: Sequence[str] | None = None, signal: str | int | None = DEFAULT_SIGNAL
    ) -> None:
        """``revoke`` with ``terminate=True``."""
        self.revoke(task_id, destination, True, signal)

    def revoke_by_stamped_headers(
        self,
        headers: Any,
        destination: Sequence[str] | None = None,
        terminate: bool = False,
        signal: str | int | None = DEFAULT_SIGNAL,
    ) -> None:
        """As ``revoke``, for all tasks that carry one of these stamps, now and as long as the revocation holds.

        ``headers``: values by name, each one or several (``{"tenant": ["acme", "initech"]}``), or a list of
        ``"name=value"``. Tasks that wait end as REVOKED when a worker comes upon them. Raises InvalidTaskError for
        what are no stamps and for what is no signal, OperationalError when it cannot be noted.
        """
        stamps = stamps_in(headers)
        name = signal_name(signal)
        nodes = [destination] if isinstance(destination, str) else destination
        if not stamps:
            return
        self._note(stamps, name if terminate else "", nodes)
        told: dict[str, list[Any]] = {}
        for each, value in stamps:
            told.setdefault(each, []).append(msgspec.json.decode(value))
        arguments = {"headers": told, "terminate": terminate, "signal": name}
        self._broadcast("revoke_by_stamped_headers", arguments, nodes)

    def _note(self, names: Sequence[Key], signal: str, destination: Sequence[str] | None) -> None:
        store = revocations_of(self.app)
        if store is None:
            logger.warning(
                "neither broker nor result store can keep revocations: only workers that run now hear of this one,"
                " and forget it when they stop"
            )
            return
        store.note(records_of(names, signal, destination), self.app.conf.task_revoke_expires)

    def _broadcast(self, method: str, arguments: dict[str, Any], destination: Sequence[str] | None) -> None:
        try:
            self.app.broker.broadcast(pidbox(self.app), command_note(method, arguments, destination))
        except UmbelError as error:
            if revocations_of(self.app) is None:
                raise
            logger.warning("a revocation was noted but not broadcast, workers heed it a little later: %s", error)

    def _answer(self, ids: Iterable[str]) -> None:
        """Store REVOKED for the tasks that wait, as far as can be told soon; the others end when they are claimed."""
        backend, broker = self.app.backend, self.app.broker
        reached = backend.features.shared or broker.stores_results_of(backend)
        if backend.features.knows_nothing or not reached or not broker.features.locates:
            return
        until = time.monotonic() + LOOK_FOR
        waiting: list[str] = []
        for each in ids:
            if time.monotonic() > until:
                break
            if broker.locate(each) in _WAITING:
                waiting.append(each)
        if waiting:
            error = encode_exception(TaskRevokedError("revoked"), backend.options.serializer)
            done = datetime.datetime.now(datetime.UTC).isoformat()
            metas = [Meta(task_id=each, status="REVOKED", result=error, date_done=done) for each in waiting]
            backend.store([backend.encode(meta) for meta in metas])

    def _wait(self, ids: Sequence[str], timeout: float) -> None:
        if not self.app.backend.features.knows_nothing:
            self.app.backend.wait(ids, timeout, lambda _: None)
