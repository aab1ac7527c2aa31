"""Which queues exist and what is bound to them: written to the database, remembered here for a moment."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterable

import msgspec

from umbel.brokers.routing import Bindings
from umbel.brokers.sql.database import Link
from umbel.brokers.sql.dialects import Dialect
from umbel.errors import UnroutableMessage
from umbel.message import Message
from umbel.queues import Exchange, Queue

_REMEMBERED = 5.0
"""Seconds after which bindings are read again; those made in between are found when a message is unroutable."""


class Routes:
    """Queues and bindings of one broker. Safe for threads."""

    def __init__(self, dialect: Dialect) -> None:
        self._dialect = dialect
        self._guard = threading.Lock()
        self._bindings = Bindings()
        self._read_at = -_REMEMBERED
        self._known: set[str] = set()

    def declare(self, link: Link, queue: Queue, owner: int | None = None) -> None:
        """Write down a queue and its binding. ``owner``: the lease with which an auto-delete queue ends."""
        self.know(link, [queue.name], again=True)
        if owner is not None:
            link.run(self._dialect.sql("UPDATE {p}queues SET owner = %s WHERE name = %s"), (owner, queue.name))
        arguments = msgspec.json.encode(queue.binding_arguments)
        binding = (queue.name, queue.exchange_name, queue.exchange.type, queue.binding_key, arguments)
        same = (
            "SELECT 1 FROM {p}bindings"
            " WHERE queue = %s AND exchange = %s AND kind = %s AND routing_key = %s AND arguments = %s"
        )
        with link.transaction():
            if link.database.kind == "postgresql":
                lock = "SELECT 1 FROM {p}queues WHERE name = %s FOR UPDATE"
                link.rows(self._dialect.sql(lock), (queue.name,))
            if not link.rows(self._dialect.sql(same), binding):
                columns = "queue, exchange, kind, routing_key, arguments"
                sql = f"INSERT INTO {{p}}bindings ({columns}) VALUES ({self._dialect.marks(5)})"
                link.run(self._dialect.sql(sql), binding)
        with self._guard:
            self._read_at = -_REMEMBERED

    def know(self, link: Link, names: Iterable[str], again: bool = False) -> None:
        """See to it that queues of these names are listed."""
        for name in names:
            if again or name not in self._known:
                self._dialect.add_if_missing(link, "queues", "name", (name,))
                self._known.add(name)

    def unknown(self, names: Iterable[str]) -> set[str]:
        """Those of ``names`` that this process has not seen yet."""
        return {name for name in names if name not in self._known}

    def forget(self, link: Link, queue: str) -> None:
        """Remove a queue's name and bindings."""
        link.run(self._dialect.sql("DELETE FROM {p}bindings WHERE queue = %s"), (queue,))
        link.run(self._dialect.sql("DELETE FROM {p}queues WHERE name = %s"), (queue,))
        with self._guard:
            self._known.discard(queue)
            self._read_at = -_REMEMBERED

    def stale(self) -> bool:
        """Whether the bindings should be read again."""
        return time.monotonic() - self._read_at > _REMEMBERED

    def read(self, link: Link) -> None:
        """Read all bindings."""
        sql = "SELECT queue, exchange, kind, routing_key, arguments FROM {p}bindings ORDER BY id"
        bindings = Bindings()
        for name, exchange, kind, key, arguments in link.rows(self._dialect.sql(sql)):
            given = msgspec.json.decode(bytes(arguments))
            bindings.declare(
                Queue(name, exchange=Exchange(exchange, type=kind), routing_key=key, binding_arguments=given)
            )
        with self._guard:
            self._bindings = bindings
            self._read_at = time.monotonic()

    def route(self, message: Message) -> list[str] | None:
        """The queues that take ``message``; None when none is known of and nobody has looked just now."""
        if not message.exchange:
            return [message.queue]
        with self._guard:
            try:
                return self._bindings.route(message)
            except UnroutableMessage:
                return None

    def must_route(self, message: Message) -> list[str]:
        """The same by what is known. Raises UnroutableMessage."""
        with self._guard:
            return self._bindings.route(message)
