"""``memory://`` for the executor processes of a worker in a test: their drivers ask those of the test process.

A forked process has a copy of the memory, not the memory. So that a task can send others, look at results and end
chords there as with every broker, the drivers of its application are replaced by ones that pass each call on.
"""

from __future__ import annotations

import multiprocessing
import os
import socket
import threading
import time
from collections.abc import Callable, Collection, Sequence
from multiprocessing.connection import Connection
from typing import TYPE_CHECKING, Any, NoReturn

from umbel.backends.base import READY_STATES, Meta
from umbel.backends.memory import MemoryBackend
from umbel.brokers.memory import MemoryBroker
from umbel.errors import BrokerError, OperationalError, UmbelError
from umbel.revocations import Noted, Revocation, Revocations

if TYPE_CHECKING:
    from umbel.app import Umbel

_POLL = 0.01
"""Seconds between two looks for a result."""

_BROKER_CALLS = (
    "broadcast",
    "dead_letters",
    "declare",
    "delete",
    "locate",
    "parked",
    "peek",
    "publish",
    "purge",
    "purge_dead",
    "queues",
    "replay",
    "size",
    "unpark",
)
_BACKEND_CALLS = (
    "begin_chord",
    "chord_parts",
    "claim_chord",
    "cleanup",
    "close_chords",
    "delete_group",
    "forget",
    "get",
    "restore_group",
    "save_group",
    "store",
    "store_parts",
)


class MemoryServer:
    """Answers for the drivers of ``app`` from its making to ``close``; in threads of this process.

    ``enter`` is for processes that were forked in the meantime.
    """

    def __init__(self, app: Umbel) -> None:
        self._app = app
        self._pid = os.getpid()
        self._own, self._door = socket.socketpair()
        self._threads = [threading.Thread(target=self._admit, name="umbel-memory", daemon=True)]
        self._threads[0].start()

    def enter(self, **_: Any) -> None:
        """In a forked process: have the application's drivers ask this one. Does nothing in the process itself."""
        if os.getpid() == self._pid:
            return
        app, line = self._app, _Line(self._door)
        broker, backend = app.broker, app.backend
        if isinstance(broker, MemoryBroker):
            broker = ForwardingBroker(broker, line)
        if isinstance(backend, MemoryBackend):
            backend = ForwardingBackend(backend, line)
        app.use_drivers(broker, backend)

    def close(self) -> None:
        """The processes have gone."""
        self._own.shutdown(socket.SHUT_RDWR)
        for thread in self._threads:
            thread.join(5.0)
        self._own.close()
        self._door.close()

    def _admit(self) -> None:
        while True:
            _, fds, _, _ = socket.recv_fds(self._own, 1, 1)
            if not fds:
                return
            thread = threading.Thread(target=self._serve, args=(Connection(fds[0]),), name="umbel-memory", daemon=True)
            self._threads.append(thread)
            thread.start()

    def _serve(self, connection: Connection) -> None:
        with connection:
            while True:
                try:
                    called = connection.recv()
                except (EOFError, OSError):
                    return
                connection.send(self._answer(*called))

    def _answer(self, driver: str, name: str, args: Any, kwargs: Any) -> tuple[bool, Any]:
        targets: dict[str, Callable[[], Any]] = {
            "broker": lambda: self._app.broker,
            "backend": lambda: self._app.backend,
            "revocations": lambda: self._app.broker.revocations(),
        }
        try:
            return True, getattr(targets[driver](), name)(*args, **kwargs)
        except UmbelError as error:
            return False, error


class _Line:
    """A process's connection to the server, one call at a time."""

    def __init__(self, door: socket.socket) -> None:
        self._connection, theirs = multiprocessing.Pipe()
        socket.send_fds(door, [b"!"], [theirs.fileno()])
        theirs.close()
        self._lock = threading.Lock()

    def call(self, driver: str, name: str, *args: Any, **kwargs: Any) -> Any:
        with self._lock:
            try:
                self._connection.send((driver, name, args, kwargs))
                well, answer = self._connection.recv()
            except (EOFError, OSError) as error:
                raise OperationalError("the process of the memory:// broker has gone") from error
        if well:
            return answer
        raise answer


class ForwardingBroker(MemoryBroker):
    """The broker of another process. Messages can be sent to it and queues be looked at, not consumed."""

    def __init__(self, broker: MemoryBroker, line: _Line) -> None:
        super().__init__(broker.url, broker.options)
        self.line = line

    def revocations(self) -> Revocations:
        return ForwardingRevocations(self.line)

    def consumer(self, *args: Any, **kwargs: Any) -> NoReturn:
        raise BrokerError("memory:// queues are consumed in the process that has the memory")

    def listen(self, *args: Any, **kwargs: Any) -> NoReturn:
        raise BrokerError("memory:// exchanges are listened to in the process that has the memory")

    def lock(self, *args: Any, **kwargs: Any) -> NoReturn:
        raise BrokerError("memory:// locks are held in the process that has the memory")


class ForwardingBackend(MemoryBackend):
    """The result store of another process."""

    def __init__(self, backend: MemoryBackend, line: _Line) -> None:
        super().__init__(backend.url, backend.options)
        self.line = line

    def wait(self, task_ids: Collection[str], timeout: float | None, on_meta: Callable[[Meta], object]) -> bool:
        deadline = None if timeout is None else time.monotonic() + timeout
        seen: dict[str, Meta | None] = dict.fromkeys(task_ids)
        while True:
            for task_id, meta in self.get(list(seen)).items():
                if meta != seen[task_id]:
                    seen[task_id] = meta
                    on_meta(meta)
                if meta.status in READY_STATES:
                    del seen[task_id]
            if not seen:
                return True
            if deadline is not None and time.monotonic() >= deadline:
                return False
            time.sleep(_POLL)

    def subscribe(self, task_id: str, on_meta: Callable[[Meta], object]) -> Callable[[], None]:
        ended = threading.Event()

        def look() -> None:
            while not ended.wait(_POLL):
                meta = self.get([task_id]).get(task_id)
                if meta is not None and meta.ready:
                    on_meta(meta)
                    return

        threading.Thread(target=look, name="umbel-memory-result", daemon=True).start()
        return ended.set


class ForwardingRevocations(Revocations):
    """The revocations noted in another process."""

    def __init__(self, line: _Line) -> None:
        self.line = line

    def note(self, records: Sequence[Revocation], seconds: float) -> None:
        self.line.call("revocations", "note", records, seconds)

    def since(self, mark: float) -> tuple[float, list[Noted]]:
        return self.line.call("revocations", "since", mark)


def _passing_on(driver: str, name: str) -> Callable[..., Any]:
    def call(self: ForwardingBroker | ForwardingBackend, *args: Any, **kwargs: Any) -> Any:
        return self.line.call(driver, name, *args, **kwargs)

    call.__name__ = name
    return call


for _name in _BROKER_CALLS:
    setattr(ForwardingBroker, _name, _passing_on("broker", _name))
for _name in _BACKEND_CALLS:
    setattr(ForwardingBackend, _name, _passing_on("backend", _name))
