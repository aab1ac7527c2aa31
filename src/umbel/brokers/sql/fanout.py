"""Fan-out: notes to all present listeners of an exchange.

PostgreSQL notifies with the note as payload, or with its number where it is too long for one. Elsewhere notes are
rows that listeners read past, and that are removed after a minute.
"""

from __future__ import annotations

import base64
import hashlib
import threading
import time
from collections.abc import Callable, Generator
from contextlib import contextmanager

import msgspec

from umbel.brokers.base import Listener, Note
from umbel.brokers.routing import topic_matches
from umbel.brokers.sql.database import Database, Link
from umbel.brokers.sql.dialects import Dialect
from umbel.brokers.sql.wakeup import Bell, Waiter, waiter_on
from umbel.errors import OperationalError

_KEPT = 60.0
_LONGEST_PAYLOAD = 7900
_encoder = msgspec.msgpack.Encoder()
_decoder = msgspec.msgpack.Decoder(Note)


class Fanout:
    """Sending and listening on one database."""

    def __init__(self, database: Database, dialect: Dialect, set_up: Callable[[Link], None]) -> None:
        self.database = database
        self.dialect = dialect
        self.set_up = set_up
        self._swept_at = 0.0

    def channel(self, exchange: str) -> str:
        """The name under which PostgreSQL notifies; as long as it may be, whatever the exchange is called."""
        return f"{self.dialect.prefix}notes_{hashlib.sha256(exchange.encode()).hexdigest()[:20]}"

    def send(self, exchange: str, note: Note) -> None:
        """Send ``note`` to all who listen now."""
        encoded = _encoder.encode(note)
        with self._link() as link, link.transaction():
            self._sweep(link)
            if self.database.kind == "postgresql":
                payload = base64.b64encode(encoded).decode()
                if len(payload) > _LONGEST_PAYLOAD:
                    payload = f"#{self._insert(link, exchange, encoded)}"
                link.rows("SELECT pg_notify(%s, %s)::text", (self.channel(exchange), payload))
            elif link.rows(self.dialect.sql("SELECT 1 FROM {p}listeners WHERE exchange = %s LIMIT 1"), (exchange,)):
                self._insert(link, exchange, encoded)

    def _insert(self, link: Link, exchange: str, encoded: bytes) -> int:
        if self.database.kind == "mysql":
            number = self._next_number(link)
            sql = "INSERT INTO {p}notes (id, exchange, note, moment) VALUES (%s, %s, %s, {now})"
            link.run(self.dialect.sql(sql), (number, exchange, encoded))
            return number
        sql = "INSERT INTO {p}notes (exchange, note, moment) VALUES (%s, %s, {now}) RETURNING id"
        return link.value(self.dialect.sql(sql), (exchange, encoded))

    def _next_number(self, link: Link) -> int:
        """A number that is greater than all that others can see, and stays so until this transaction commits."""
        count = self.dialect.sql("UPDATE {p}counters SET value = LAST_INSERT_ID(value + 1) WHERE name = 'notes'")
        if not link.run(count):
            self.dialect.add_if_missing(link, "counters", "name, value", ("notes", 0))
            link.run(count)
        return link.value("SELECT LAST_INSERT_ID()")

    def _sweep(self, link: Link) -> None:
        if time.monotonic() - self._swept_at > _KEPT / 4:
            self._swept_at = time.monotonic()
            link.run(self.dialect.sql("DELETE FROM {p}notes WHERE moment < {now} - %s"), (_KEPT,))
            link.run(self.dialect.sql("DELETE FROM {p}listeners WHERE ends < {now}"))

    def enter(self, link: Link, exchange: str, listener: int) -> int:
        """Register a listener, again and again: for ``_KEPT`` seconds at a time; its number."""
        again = self.dialect.sql("UPDATE {p}listeners SET ends = {now} + %s WHERE id = %s")
        if listener and link.run(again, (_KEPT, listener)):
            return listener
        link.run(
            self.dialect.sql("INSERT INTO {p}listeners (exchange, ends) VALUES (%s, {now} + %s)"), (exchange, _KEPT)
        )
        number = "last_insert_rowid()" if self.database.kind == "sqlite" else "LAST_INSERT_ID()"
        return link.value(f"SELECT {number}")

    def leave(self, link: Link, exchange: str, listener: int) -> None:
        """Remove a listener, and the notes of its exchange when it was the last."""
        with link.transaction():
            link.run(self.dialect.sql("DELETE FROM {p}listeners WHERE id = %s"), (listener,))
            if not link.rows(self.dialect.sql("SELECT 1 FROM {p}listeners WHERE exchange = %s LIMIT 1"), (exchange,)):
                link.run(self.dialect.sql("DELETE FROM {p}notes WHERE exchange = %s"), (exchange,))

    @contextmanager
    def _link(self) -> Generator[Link]:
        with self.database.borrowed() as link:
            self.set_up(link)
            yield link

    def listen(self, exchange: str, pattern: str) -> Listener:
        return SQLListener(self, exchange, pattern)


class SQLListener(Listener):
    """See :class:`Listener`. After a lost connection it begins anew: notes sent in between are missed."""

    def __init__(self, fanout: Fanout, exchange: str, pattern: str) -> None:
        self._fanout = fanout
        self._exchange = exchange
        self._pattern = pattern
        self._waiter: Waiter | None = None
        self._last = -1
        self._number = 0
        self._entered_at = 0.0
        self._closed = False
        self._bell = Bell()
        self._receiving = threading.Lock()
        self._connect()

    def _connect(self) -> Waiter:
        link = self._fanout.database.link(durable=False)
        try:
            self._fanout.set_up(link)
            waiter = waiter_on(link, self._bell, self._fanout.channel(self._exchange))
            waiter.arm()
            if self._stored and self._last < 0:
                self._enter(link)
                self._last = link.value(self._fanout.dialect.sql("SELECT coalesce(max(id), 0) FROM {p}notes"))
        except OperationalError:
            link.discard()
            raise
        self._waiter = waiter
        return waiter

    @property
    def _stored(self) -> bool:
        """Whether notes come as rows."""
        return self._fanout.database.kind != "postgresql"

    def _enter(self, link: Link) -> None:
        if time.monotonic() - self._entered_at > _KEPT / 6:
            self._number = self._fanout.enter(link, self._exchange, self._number)
            self._entered_at = time.monotonic()

    def receive(self, timeout: float) -> list[Note]:
        deadline = time.monotonic() + timeout
        with self._receiving:
            if self._closed:
                return []
            waiter = self._waiter or self._connect()
            try:
                return self._receive(waiter, deadline)
            except OperationalError:
                self._disconnect()
                raise

    def _receive(self, waiter: Waiter, deadline: float) -> list[Note]:
        while not self._closed:
            if self._stored:
                self._enter(waiter.link)
                waiter.arm()
                notes = self._read(waiter.link)
                if notes:
                    waiter.busy()
                    return notes
            rest = deadline - time.monotonic()
            heard = waiter.wait(max(0.0, min(rest, _KEPT / 6)))
            notes = self._fitting([self._heard(waiter.link, payload) for payload in heard])
            if notes or rest <= 0:
                return notes
        return []

    def _read(self, link: Link) -> list[Note]:
        sql = "SELECT id, note FROM {p}notes WHERE id > %s AND exchange = %s ORDER BY id LIMIT 1000"
        rows = link.rows(self._fanout.dialect.sql(sql), (self._last, self._exchange))
        if rows:
            self._last = rows[-1][0]
        return self._fitting([bytes(row[1]) for row in rows])

    def _heard(self, link: Link, payload: str) -> bytes | None:
        if not payload.startswith("#"):
            return base64.b64decode(payload)
        return link.value(self._fanout.dialect.sql("SELECT note FROM {p}notes WHERE id = %s"), (int(payload[1:]),))

    def _fitting(self, encoded: list[bytes | None]) -> list[Note]:
        notes = [_decoder.decode(note) for note in encoded if note is not None]
        return [note for note in notes if topic_matches(self._pattern, note.routing_key)]

    def _disconnect(self) -> None:
        waiter, self._waiter = self._waiter, None
        if waiter is None:
            return
        try:
            if self._closed and self._number:
                self._fanout.leave(waiter.link, self._exchange, self._number)
        finally:
            waiter.close()
            waiter.link.discard()

    def close(self) -> None:
        self._closed = True
        self._bell.ring()
        with self._receiving:
            self._disconnect()
