"""The broker: sending, administration, and the making of consumers, listeners and locks."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Collection, Generator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from msgspec.json import encode

from umbel.brokers.base import Broker, Consumer, DeadLetter, Features, Listener, Lock, Note, Options, Place, QueueSize
from umbel.brokers.sql.consumer import SQLConsumer
from umbel.brokers.sql.database import Database, Link
from umbel.brokers.sql.dialects import PostgreSQL, chunks, dialect_for
from umbel.brokers.sql.fanout import Fanout
from umbel.brokers.sql.locks import SQLLock
from umbel.brokers.sql.publishing import Publishers, persist
from umbel.brokers.sql.revocations import SQLRevocations
from umbel.brokers.sql.routes import Routes
from umbel.brokers.sql.rows import WRITTEN, Row, dead_letter_of, place, readable, row_of
from umbel.brokers.sql.tables import DEAD, DELAYED, HELD, PARKED, PLACES, READY, Tables, set_up
from umbel.errors import BrokerError
from umbel.message import Message
from umbel.queues import Queue
from umbel.revocations import Revocations

if TYPE_CHECKING:
    from umbel.backends.base import Backend
    from umbel.backends.sql_chords import ChordTable
    from umbel.backends.sql_results import ResultTable

_abandoned: list[Any] = []
"""What a forked child inherited; see ``database``."""


class SQLBroker(Broker):
    """``sqlite:///path``, ``postgresql://…``, ``mysql://…``, ``mariadb://…``: queues in tables ``umbel_*``.

    Of ``options.transport``: ``engine_options`` are passed to SQLAlchemy's ``create_engine``, ``statement_timeout``
    (seconds, default 10) bounds every statement.

    Durability: on SQLite ``publish`` returns when the disk has the messages (``synchronous=FULL``); what consumers
    do survives any crash of processes, and a loss of power can undo the last of it, so that tasks run again.
    """

    features = Features()

    def __init__(self, url: str, options: Options | None = None) -> None:
        super().__init__(url, options)
        self.database = Database(
            url,
            refusal=BrokerError,
            connect_timeout=self.options.connect_timeout,
            patience=float(self.options.transport.get("statement_timeout", 10.0)),
            ssl=self.options.ssl,
            transport=self.options.transport,
        )
        prefix = f"{self.options.key_prefix}umbel_"
        self.dialect = dialect_for(self.database.kind, prefix)
        self.tables = Tables(prefix, self.database.kind)
        self.routes = Routes(self.dialect)
        self._fanout = Fanout(self.database, self.dialect, self.set_up)
        self._publishers = Publishers(self.database, self.dialect, self._prepare)
        self._results: ResultTable | None = None
        self._chords: ChordTable | None = None
        self._is_set_up = False
        self._setting_up = threading.Lock()

    def set_up(self, link: Link) -> None:
        """See to it that the tables exist; once per object."""
        if self._is_set_up:
            return
        with self._setting_up:
            if not self._is_set_up:
                set_up(link, self.tables)
                self._is_set_up = True

    @contextmanager
    def _link(self, timeout: float | None = None) -> Generator[Link]:
        with self.database.borrowed(timeout) as link:
            self.set_up(link)
            yield link

    # -- publishing --

    def publish(self, messages: Sequence[Message], timeout: float | None = None, *, connection: Any = None) -> None:
        """Send messages. With ``connection`` (a SQLAlchemy ``Connection`` or ``Session`` on the broker's database)
        they are part of its transaction: sent when it commits, never sent when it rolls back; the tables are then
        created by a connection of the broker's own. See also :meth:`Broker.publish`."""
        if not messages:
            return
        if connection is not None:
            self._publish_inside(messages, connection)
            return
        deadline = time.monotonic() + (self.options.publish_timeout if timeout is None else timeout)
        rows = persist(lambda: self.rows_of(messages), deadline)
        self._publishers.send(rows, deadline)

    def _prepare(self, link: Link, rows: Sequence[Row]) -> None:
        self.set_up(link)
        self.routes.know(link, self.routes.unknown(row[0] for row in rows))

    def rows_of(self, messages: Sequence[Message]) -> list[Row]:
        """A row for each message and each queue that takes it. Raises UnroutableMessage."""
        routed = [(message, self.routes.route(message)) for message in messages]
        missing = any(queues is None for _, queues in routed)
        exchanges = any(message.exchange for message in messages)
        if missing or (exchanges and self.routes.stale()):
            self._with(self.routes.read)
            routed = [(message, self.routes.must_route(message)) for message in messages]
        return [row_of(message, queue, self.options) for message, queues in routed for queue in queues or ()]

    def add(self, link: Link, rows: Sequence[Row]) -> None:
        """Insert messages in the link's transaction."""
        self.dialect.insert(link, rows)
        self.dialect.announce(link)

    @property
    def results(self) -> ResultTable:
        """Where results go that are settled together with their task."""
        if self._results is None:
            from umbel.backends.sql_results import ResultTable

            self._results = ResultTable(self.database.kind)
        return self._results

    @property
    def chords(self) -> ChordTable:
        """Where the ends of members of chords are noted that are settled together with their task."""
        if self._chords is None:
            from umbel.backends.sql_chords import ChordTable

            self._chords = ChordTable(self.database.kind)
        return self._chords

    def _with(self, use: Callable[[Link], object]) -> None:
        with self._link() as link:
            use(link)

    def _publish_inside(self, messages: Sequence[Message], connection: Any) -> None:
        import sqlalchemy as sa
        from sqlalchemy.exc import DBAPIError
        from sqlalchemy.orm import Session

        if not self._is_set_up:
            self._with(self.set_up)
        rows = self.rows_of(messages)
        if isinstance(connection, Session):
            connection = connection.connection()
        try:
            values = [dict(zip(WRITTEN, row, strict=True)) for row in rows]
            connection.execute(sa.insert(self.tables.messages), values)
            if isinstance(self.dialect, PostgreSQL):
                connection.execute(sa.select(sa.func.pg_notify(self.dialect.channel, "")))
        except DBAPIError as error:
            raise self.database.fault(error) from error

    # -- consuming --

    def consumer(self, queues: Sequence[Queue], *, name: str, lease: float = 5.0, window: int = 0) -> Consumer:
        return SQLConsumer(self, queues, name, lease)

    def stores_results_of(self, backend: Backend) -> bool:
        from umbel.backends.sql import SQLBackend

        if not isinstance(backend, SQLBackend) or backend.database.key != self.database.key or backend.attached:
            return False
        self._results = backend.table
        return True

    # -- administration --

    def declare(self, queue: Queue, timeout: float | None = None) -> None:
        with self._link(timeout) as link:
            self.routes.declare(link, queue)

    def queues(self) -> list[str]:
        with self._link() as link:
            sql = "SELECT name FROM {p}queues UNION SELECT DISTINCT queue FROM {p}messages"
            return sorted(row[0] for row in link.rows(self.dialect.sql(sql)))

    def size(self, queue: str) -> QueueSize:
        with self._link() as link:
            counts = dict.fromkeys((READY, DELAYED, HELD, PARKED, DEAD), 0)
            sql = (
                f"SELECT CASE WHEN state = {DELAYED} AND due <= {{now}} THEN {READY} ELSE state END AS stands, count(*)"
                " FROM {p}messages WHERE queue = %s GROUP BY stands"
            )
            counts |= dict(link.rows(self.dialect.sql(sql), (queue,)))
        return QueueSize(
            ready=counts[READY], delayed=counts[DELAYED], held=counts[HELD], parked=counts[PARKED], dead=counts[DEAD]
        )

    def peek(self, queue: str, limit: int = 10) -> list[Message]:
        with self._link() as link:
            rows: list[Row] = []
            for where in (f"state = {READY}", f"state = {DELAYED} AND due <= {{now}}"):
                sql = f"SELECT {self.dialect.read} FROM {{p}}messages WHERE queue = %s AND {where}"
                rows += link.rows(self.dialect.sql(sql + " ORDER BY urgency, id LIMIT %s"), (queue, limit))
        return [readable(row)[0] for row in sorted(rows, key=place)[:limit]]

    def locate(self, task_id: str) -> Place | None:
        sql = (
            f"SELECT CASE WHEN state = {DELAYED} AND due <= {{now}} THEN {READY} ELSE state END, {self.dialect.read}"
            f" FROM {{p}}messages WHERE {self.dialect.contains('headers')}"
        )
        with self._link() as link:
            for stands, *row in link.rows(self.dialect.sql(sql), (b'"id":' + encode(task_id),)):
                if readable(row)[0].id == task_id:
                    return PLACES[int(stands)]
        return None

    def purge(self, queue: str) -> int:
        with self._link() as link, link.transaction():
            sql = f"DELETE FROM {{p}}messages WHERE queue = %s AND state IN ({READY}, {DELAYED})"
            return link.run(self.dialect.sql(sql), (queue,))

    def delete(self, queue: str) -> None:
        with self._link() as link, link.transaction():
            self.routes.forget(link, queue)
            link.run(self.dialect.sql("DELETE FROM {p}messages WHERE queue = %s"), (queue,))

    def dead_letters(self, queue: str, limit: int = 100) -> list[DeadLetter]:
        with self._link() as link:
            self.drop_expired_dead(link)
            sql = (
                f"SELECT {self.dialect.read}, reason, due FROM {{p}}messages WHERE queue = %s AND state = {DEAD}"
                " ORDER BY due, id LIMIT %s"
            )
            rows = link.rows(self.dialect.sql(sql), (queue, limit))
        return [dead_letter_of(row[:-2], row[-2] or "", row[-1]) for row in rows]

    def drop_expired_dead(self, link: Link) -> None:
        """Delete dead letters older than ``dead_letter_expires``."""
        sql = f"DELETE FROM {{p}}messages WHERE state = {DEAD} AND due < {{now}} - %s"
        link.run(self.dialect.sql(sql), (self.options.dead_letter_expires,))

    def replay(self, queue: str, ids: Collection[str] | None = None) -> int:
        change = f"state = {READY}, due = 0, deliveries = 0, reason = NULL"
        with self._link() as link, link.transaction():
            count = self._each_dead(link, f"UPDATE {{p}}messages SET {change}", queue, ids)
            self.dialect.announce(link)
        return count

    def purge_dead(self, queue: str, ids: Collection[str] | None = None) -> int:
        with self._link() as link, link.transaction():
            return self._each_dead(link, "DELETE FROM {p}messages", queue, ids)

    def _each_dead(self, link: Link, statement: str, queue: str, ids: Collection[str] | None) -> int:
        statement = f"{statement} WHERE queue = %s AND state = {DEAD}"
        if ids is None:
            return link.run(self.dialect.sql(statement), (queue,))
        count = 0
        for part in chunks([int(letter) for letter in ids if letter.isdecimal()]):
            sql = f"{statement} AND id IN ({self.dialect.marks(len(part))})"
            count += link.run(self.dialect.sql(sql), (queue, *part))
        return count

    def parked(self, queue: str) -> dict[str, int]:
        with self._link() as link:
            sql = f"SELECT task, count(*) FROM {{p}}messages WHERE queue = %s AND state = {PARKED} GROUP BY task"
            return dict(link.rows(self.dialect.sql(sql), (queue,)))

    def unpark(self, queue: str, tasks: Collection[str]) -> int:
        count = 0
        with self._link() as link, link.transaction():
            for part in chunks(sorted(tasks)):
                sql = (
                    f"UPDATE {{p}}messages SET state = {READY} WHERE queue = %s AND state = {PARKED}"
                    f" AND task IN ({self.dialect.marks(len(part))})"
                )
                count += link.run(self.dialect.sql(sql), (queue, *part))
            if count:
                self.dialect.announce(link)
        return count

    # -- fan-out and locks --

    def broadcast(self, exchange: str, note: Note) -> None:
        self._fanout.send(exchange, note)

    def listen(self, exchange: str, pattern: str = "#") -> Listener:
        return self._fanout.listen(exchange, pattern)

    def lock(self, name: str, ttl: float) -> Lock:
        return SQLLock(self._link, self.dialect, name, ttl)

    def revocations(self) -> Revocations:
        return SQLRevocations(self.database, self.tables.prefix)

    # -- life --

    def close(self) -> None:
        self._publishers.close()
        self.database.close()

    def after_fork(self) -> None:
        _abandoned.append(self._publishers.after_fork())
        self._publishers = Publishers(self.database, self.dialect, self._prepare)
        self._setting_up = threading.Lock()
        self.routes = Routes(self.dialect)
        self.database.after_fork()
