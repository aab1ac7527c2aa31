"""The statements of the SQL broker: what is the same everywhere, and what each system says in its own way.

A statement is one method that runs on a link, inside the transaction of its caller. ``%s`` marks a value in all of
them (``?`` on SQLite). Indexes are named in ``tables.py``; `EXPLAIN` of the claim is held by a test.
"""

from __future__ import annotations

import json
from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any, TypeVar

from umbel.brokers.sql.arrays import BigIntegers, spread
from umbel.brokers.sql.database import Kind, Link
from umbel.brokers.sql.rows import READ, WRITTEN, Row
from umbel.brokers.sql.tables import DEAD, DELAYED, HELD, PARKED, READY

_COLUMNS = ", ".join(WRITTEN)
PROMOTED_AT_ONCE = 1000
T = TypeVar("T")


class Dialect(ABC):
    """Statements that all systems understand. ``now`` is the database's own Unix time in seconds."""

    now = ""
    mark = "%s"

    def __init__(self, prefix: str) -> None:
        self.prefix = prefix
        self.read = ", ".join(READ)
        self._claims: dict[int, str] = {}

    def sql(self, text: str) -> str:
        """``text`` with ``{p}`` as the prefix of tables and ``{now}`` as the database's time."""
        return text.replace("{p}", self.prefix).replace("{now}", self.now).replace("%s", self.mark)

    def marks(self, count: int) -> str:
        return ", ".join([self.mark] * count)

    def contains(self, column: str) -> str:
        """The condition that a column of bytes contains a value."""
        return f"instr({column}, %s) > 0"

    # -- sending --

    def insert(self, link: Link, rows: Sequence[Row]) -> None:
        """Add messages, in order."""
        link.run_each(self.sql(f"INSERT INTO {{p}}messages ({_COLUMNS}) VALUES ({self.marks(len(WRITTEN))})"), rows)

    # -- leases --

    def begin_lease(self, link: Link, name: str, lease: float) -> int:
        """A new row in ``consumers`` that ends in ``lease`` seconds; its id."""
        sql = "INSERT INTO {p}consumers (name, ends, settled) VALUES (%s, {now} + %s, 0) RETURNING id"
        return link.value(self.sql(sql), (name, lease))

    def limit_idleness(self, link: Link, seconds: float) -> None:  # noqa: B027 - most need nothing
        """Have the server undo a transaction of this link in which nothing happens for so long: its process was
        stopped or is gone, and what it has locked is wanted by others."""

    def prolong_lease(self, link: Link, consumer: int, lease: float) -> bool:
        sql = "UPDATE {p}consumers SET ends = {now} + %s WHERE id = %s"
        return link.run(self.sql(sql), (lease, consumer)) > 0

    def number_batch(self, link: Link, consumer: int, batch: int) -> bool:
        """Write down that ``batch`` is settled in this transaction, and keep the reaper away until its end.

        False: the lease is lost.
        """
        return link.run(self.sql("UPDATE {p}consumers SET settled = %s WHERE id = %s"), (batch, consumer)) > 0

    def last_batch(self, link: Link, consumer: int) -> int | None:
        """The number of the last batch settled, once nobody is settling; None: the lease is lost."""
        return link.value(self.sql("SELECT settled FROM {p}consumers WHERE id = %s FOR UPDATE"), (consumer,))

    def has_lease(self, link: Link, consumer: int) -> bool:
        return bool(link.rows(self.sql("SELECT 1 FROM {p}consumers WHERE id = %s"), (consumer,)))

    def end_lease(self, link: Link, consumer: int) -> None:
        """Give back all that is held, uncounted, and forget the lease."""
        sql = f"UPDATE {{p}}messages SET state = {READY}, consumer = NULL WHERE consumer = %s AND state = {HELD}"
        link.run(self.sql(sql), (consumer,))
        link.run(self.sql("DELETE FROM {p}consumers WHERE id = %s"), (consumer,))

    def reap(self, link: Link, limit: int) -> int:
        """End the leases that have run out, return their work counted, bury what was delivered more than ``limit``
        times; how many messages were returned or buried."""
        over = "SELECT id FROM {p}consumers WHERE ends < {now}" + self.locking
        link.run(self.sql(f"DELETE FROM {{p}}consumers WHERE id {self.among.format(over)}"))
        orphans = (
            self.sql(
                f"SELECT id, deliveries FROM {{p}}messages WHERE state = {HELD} AND consumer IS NOT NULL"
                " AND NOT EXISTS (SELECT 1 FROM {p}consumers c WHERE c.id = {p}messages.consumer)"
            )
            + self.locking
        )
        found = link.rows(orphans)
        for ids in chunks([row[0] for row in found if row[1] + 1 <= limit]):
            self.change(link, ids, f"state = {READY}, consumer = NULL, deliveries = deliveries + 1")
        reason = f"delivered {limit + 1} times, and each time its worker died or lost its lease"
        for ids in chunks([row[0] for row in found if row[1] + 1 > limit]):
            change = f"state = {DEAD}, consumer = NULL, deliveries = deliveries + 1, due = {{now}}, reason = %s"
            self.change(link, ids, change, (reason,))
        return len(found)

    among = "IN ({})"
    """What follows a column that is among the values of a SELECT."""
    locking = ""
    """What makes a SELECT lock its rows and pass over those that others have locked."""

    # -- claiming --

    def promote(self, link: Link) -> int:
        """Make delayed messages ready whose time has come; how many."""
        due = f"SELECT id FROM {{p}}messages WHERE state = {DELAYED} AND due <= {{now}} ORDER BY due LIMIT %s"
        sql = f"UPDATE {{p}}messages SET state = {READY}, due = 0 WHERE id {self.among.format(due + self.locking)}"
        return link.run(self.sql(sql), (PROMOTED_AT_ONCE,))

    def next_due(self, link: Link) -> float | None:
        """Seconds until a delayed message is due, of any queue; None when there is none."""
        return link.value(self.sql(f"SELECT min(due) - {{now}} FROM {{p}}messages WHERE state = {DELAYED}"))

    def work_waits(self, link: Link, queues: Sequence[str]) -> bool:
        """Whether these queues have ready messages, or any queue one that is due; without locking anything."""
        ready = f"SELECT 1 FROM {{p}}messages WHERE state = {READY} AND queue IN ({self.marks(len(queues))})"
        due = f"SELECT 1 FROM {{p}}messages WHERE state = {DELAYED} AND due <= {{now}}"
        return bool(link.value(self.sql(f"SELECT EXISTS ({ready}) OR EXISTS ({due})"), queues))

    def claim(self, link: Link, consumer: int, queues: Sequence[str], limit: int) -> list[Row]:
        """Hold up to ``limit`` messages and return their rows: the most urgent of all ``queues``, and of equally
        urgent ones as many from each. Nothing when the lease is lost."""
        picked = self.among.format(self.picking(len(queues)))
        sql = self.sql(
            f"UPDATE {{p}}messages SET state = {HELD}, consumer = %s WHERE id {picked}"
            f" AND EXISTS (SELECT 1 FROM {{p}}consumers WHERE id = %s) RETURNING {self.read}"
        )
        return link.rows(sql, [consumer, *self.picked(queues, limit), consumer])

    def picking(self, queues: int) -> str:
        """A SELECT of the ids to claim; its values are each queue with the limit, then the limit."""
        if queues not in self._claims:
            one = (
                f"SELECT id, urgency FROM {{p}}messages WHERE queue = %s AND state = {READY}"
                f" ORDER BY urgency, id LIMIT %s{self.locking}"
            )
            if queues == 1:
                text = f"SELECT id FROM ({one}) only_queue LIMIT %s"
            else:
                each = (
                    f"SELECT id, urgency, row_number() OVER (ORDER BY urgency, id) AS turn FROM ({one}) q{n}"
                    for n in range(queues)
                )
                text = f"SELECT id FROM ({' UNION ALL '.join(each)}) every_queue ORDER BY urgency, turn, id LIMIT %s"
            self._claims[queues] = self.sql(text)
        return self._claims[queues]

    @staticmethod
    def picked(queues: Sequence[str], limit: int) -> list[Any]:
        return [value for queue in queues for value in (queue, limit)] + [limit]

    def held(self, link: Link, consumer: int) -> list[Row]:
        """Rows of all that a consumer holds."""
        return link.rows(
            self.sql(f"SELECT {self.read} FROM {{p}}messages WHERE consumer = %s AND state = {HELD}"), (consumer,)
        )

    # -- settling --

    @abstractmethod
    def hold(self, link: Link, consumer: int, ids: Sequence[int]) -> set[int]:
        """Those of ``ids`` that the consumer still holds; nobody can take them before the end of the transaction."""

    def remove_held(self, link: Link, consumer: int, ids: Sequence[int]) -> set[int]:
        """Delete messages that the consumer holds; those that it did."""
        ours = self.hold(link, consumer, ids)
        for part in chunks(list(ours)):
            link.run(self.sql(f"DELETE FROM {{p}}messages WHERE id IN ({self.marks(len(part))})"), part)
        return ours

    def change(self, link: Link, ids: Sequence[int], change: str, values: Sequence[Any] = ()) -> int:
        """Set columns of messages by id."""
        sql = f"UPDATE {{p}}messages SET {change} WHERE id IN ({self.marks(len(ids))})"
        return link.run(self.sql(sql), (*values, *ids))

    def requeue(self, link: Link, row: int, delay: float, counted: bool) -> None:
        """Put a held message back at its place, now or ``delay`` seconds from now."""
        state, due = (DELAYED, "{now} + %s") if delay > 0 else (READY, "%s")
        change = f"state = {state}, due = {due}, consumer = NULL, deliveries = deliveries + {int(counted)}"
        self.change(link, [row], change, (max(delay, 0.0),))

    def bury(self, link: Link, row: int, reason: str, counted: bool) -> None:
        change = (
            f"state = {DEAD}, due = {{now}}, reason = %s, consumer = NULL, deliveries = deliveries + {int(counted)}"
        )
        self.change(link, [row], change, (reason,))

    def park(self, link: Link, row: int) -> None:
        self.change(link, [row], f"state = {PARKED}, consumer = NULL")

    # -- small things --

    @abstractmethod
    def add_if_missing(self, link: Link, table: str, columns: str, values: Sequence[Any]) -> bool:
        """Insert a row unless its primary key exists; true when it was added."""

    def announce(self, link: Link) -> None:  # noqa: B027 - most cannot
        """Wake idle consumers at the end of the transaction, where the system can."""


class SQLite(Dialect):
    now = "((julianday('now') - 2440587.5) * 86400.0)"
    mark = "?"

    def number_batch(self, link: Link, consumer: int, batch: int) -> bool:
        """SQLite loses no answers, so batches need no numbers."""
        return self.has_lease(link, consumer)

    def last_batch(self, link: Link, consumer: int) -> int | None:
        return link.value(self.sql("SELECT settled FROM {p}consumers WHERE id = %s"), (consumer,))

    def hold(self, link: Link, consumer: int, ids: Sequence[int]) -> set[int]:
        sql = "SELECT id FROM {p}messages WHERE id IN (SELECT value FROM json_each(%s)) AND consumer = %s"
        return {row[0] for row in link.rows(self.sql(sql), (json.dumps(ids), consumer))}

    def remove_held(self, link: Link, consumer: int, ids: Sequence[int]) -> set[int]:
        sql = "DELETE FROM {p}messages WHERE id IN (SELECT value FROM json_each(%s)) AND +consumer = %s RETURNING id"
        return {row[0] for row in link.rows(self.sql(sql), (json.dumps(ids), consumer))}

    def add_if_missing(self, link: Link, table: str, columns: str, values: Sequence[Any]) -> bool:
        sql = f"INSERT OR IGNORE INTO {{p}}{table} ({columns}) VALUES ({self.marks(len(values))})"
        return link.run(self.sql(sql), values) > 0


class PostgreSQL(Dialect):
    now = "extract(epoch FROM clock_timestamp())::float8"
    locking = " FOR UPDATE SKIP LOCKED"
    among = "= ANY(ARRAY({}))"

    _types = ("text", "int", "int", "int", "float8", "text", "bytea", "bytea", *["text"] * 6)

    def contains(self, column: str) -> str:
        return f"position(%s::bytea IN {column}) > 0"

    def limit_idleness(self, link: Link, seconds: float) -> None:
        link.run(f"SET idle_in_transaction_session_timeout = {max(1, round(seconds * 1000))}")

    def insert(self, link: Link, rows: Sequence[Row]) -> None:
        for part in chunks(rows):
            selected, values = spread(part, self._types)
            link.run(self.sql(f"INSERT INTO {{p}}messages ({_COLUMNS}) SELECT {selected}"), values)

    def insert_once(self, link: Link, publisher: int, batch: int, rows: Sequence[Row], channel: str) -> None:
        """Add messages unless ``publisher`` has sent this batch before, and wake consumers: all in one statement."""
        selected, values = spread(rows, self._types)
        sql = (
            "WITH first AS (INSERT INTO {p}publishers (id, batch, moment) VALUES (%s, %s, {now}) ON CONFLICT (id)"
            " DO UPDATE SET batch = excluded.batch, moment = excluded.moment"
            " WHERE {p}publishers.batch < excluded.batch RETURNING 1),"
            f" added AS (INSERT INTO {{p}}messages ({_COLUMNS})"
            f" SELECT {selected} WHERE EXISTS (SELECT 1 FROM first))"
            " SELECT pg_notify(%s, '')::text"
        )
        link.rows(self.sql(sql), [publisher, batch, *values, channel])

    def hold(self, link: Link, consumer: int, ids: Sequence[int]) -> set[int]:
        sql = "SELECT id FROM {p}messages WHERE id = ANY(%s::bigint[]) AND consumer = %s ORDER BY id FOR UPDATE"
        return {row[0] for row in link.rows(self.sql(sql), (BigIntegers(ids), consumer))}

    def remove_held(self, link: Link, consumer: int, ids: Sequence[int]) -> set[int]:
        sql = (
            "WITH gone AS (DELETE FROM {p}messages WHERE id = ANY(%s::bigint[]) AND consumer = %s RETURNING id)"
            " SELECT CASE WHEN count(*) < %s THEN array_agg(id) END, count(*) FROM gone"
        )
        ((some, count),) = link.rows(self.sql(sql), (BigIntegers(ids), consumer, len(ids)))
        return set(ids) if count == len(ids) else set(some or ())

    def change(self, link: Link, ids: Sequence[int], change: str, values: Sequence[Any] = ()) -> int:
        sql = f"UPDATE {{p}}messages SET {change} WHERE id = ANY(%s::bigint[])"
        return link.run(self.sql(sql), (*values, BigIntegers(ids)))

    def add_if_missing(self, link: Link, table: str, columns: str, values: Sequence[Any]) -> bool:
        sql = f"INSERT INTO {{p}}{table} ({columns}) VALUES ({self.marks(len(values))}) ON CONFLICT DO NOTHING"
        return link.run(self.sql(sql), values) > 0

    def announce(self, link: Link) -> None:
        link.rows("SELECT pg_notify(%s, '')::text", (self.channel,))

    @property
    def channel(self) -> str:
        """The channel on which consumers are woken."""
        return f"{self.prefix}messages"


class MySQL(Dialect):
    now = "(UNIX_TIMESTAMP(NOW(6)) + 0e0)"
    locking = " FOR UPDATE SKIP LOCKED"

    _at_once = 1 << 22
    """Bytes of a body in one statement: the driver sends them in hexadecimal, and statements have a largest size."""

    def limit_idleness(self, link: Link, seconds: float) -> None:
        if "MariaDB" in str(link.value("SELECT VERSION()")):
            link.run(f"SET SESSION idle_transaction_timeout = {max(1, round(seconds))}")

    def insert(self, link: Link, rows: Sequence[Row]) -> None:
        body = WRITTEN.index("body")
        start = 0
        for number, row in enumerate(rows):
            if len(row[body]) > self._at_once:
                if start < number:
                    super().insert(link, rows[start:number])
                super().insert(link, [(*row[:body], b"", *row[body + 1 :])])
                self._append(link, link.value("SELECT LAST_INSERT_ID()"), row[body])
                start = number + 1
        if start < len(rows):
            super().insert(link, rows[start:])

    def _append(self, link: Link, row: int, body: bytes) -> None:
        for start in range(0, len(body), self._at_once):
            self.change(link, [row], "body = CONCAT(body, %s)", (body[start : start + self._at_once],))

    def begin_lease(self, link: Link, name: str, lease: float) -> int:
        link.run(self.sql("INSERT INTO {p}consumers (name, ends, settled) VALUES (%s, {now} + %s, 0)"), (name, lease))
        return link.value("SELECT LAST_INSERT_ID()")

    def promote(self, link: Link) -> int:
        """In two steps, since MySQL cannot change a table that it selects from."""
        sql = f"SELECT id FROM {{p}}messages WHERE state = {DELAYED} AND due <= {{now}} ORDER BY due LIMIT %s"
        ids = [row[0] for row in link.rows(self.sql(sql) + self.locking, (PROMOTED_AT_ONCE,))]
        return self.change(link, ids, f"state = {READY}, due = 0") if ids else 0

    def claim(self, link: Link, consumer: int, queues: Sequence[str], limit: int) -> list[Row]:
        """In two steps, since MySQL has no UPDATE … RETURNING; ids first, so that only they are locked."""
        if not self.has_lease(link, consumer):
            return []
        ids = [row[0] for row in link.rows(self.picking(len(queues)), self.picked(queues, limit))]
        if not ids:
            return []
        self.change(link, ids, f"state = {HELD}, consumer = %s", (consumer,))
        return link.rows(self.sql(f"SELECT {self.read} FROM {{p}}messages WHERE id IN ({self.marks(len(ids))})"), ids)

    def hold(self, link: Link, consumer: int, ids: Sequence[int]) -> set[int]:
        held: set[int] = set()
        for part in chunks(ids):
            among = f"id IN ({self.marks(len(part))}) AND consumer = %s"
            found = link.rows(
                self.sql(f"SELECT id FROM {{p}}messages WHERE {among} ORDER BY id FOR UPDATE"), (*part, consumer)
            )
            held.update(row[0] for row in found)
        return held

    def add_if_missing(self, link: Link, table: str, columns: str, values: Sequence[Any]) -> bool:
        sql = f"INSERT IGNORE INTO {{p}}{table} ({columns}) VALUES ({self.marks(len(values))})"
        return link.run(self.sql(sql), values) > 0


def chunks(items: Sequence[T], size: int = 1000) -> list[Sequence[T]]:
    """``items`` in parts of at most ``size``: a statement has only so many values."""
    return [items[start : start + size] for start in range(0, len(items), size)]


def dialect_for(kind: Kind, prefix: str) -> Dialect:
    """The statements for one system."""
    kinds: dict[Kind, type[Dialect]] = {"sqlite": SQLite, "postgresql": PostgreSQL, "mysql": MySQL}
    return kinds[kind](prefix)
