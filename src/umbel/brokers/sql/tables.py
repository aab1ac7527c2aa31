"""Umbel's own tables, and how they come into being when several processes start at once.

========== =============================================================================================
messages   every message until it is acknowledged; ``state`` says where it stands
consumers  live leases; ``ends`` is the database's time, ``settled`` numbers the batches settled
publishers one row per publishing connection: the number of its last batch, so that none is sent twice
queues     names of queues; ``owner`` is the consumer with whom an auto-delete queue ends
bindings   which queue takes what from which exchange
locks      named locks
notes      fan-out messages on their way
listeners  who waits for them; without any they are not even written
counters   numbers handed out in commit order (MySQL has no other way)
schema     version of all this
========== =============================================================================================
"""

from __future__ import annotations

from collections.abc import Generator, Sequence
from contextlib import contextmanager
from typing import Any

import sqlalchemy as sa
from sqlalchemy.dialects import mysql
from sqlalchemy.schema import CreateIndex, CreateSequence, CreateTable

from umbel.brokers.base import Place
from umbel.brokers.sql.database import Kind, Link
from umbel.errors import BrokerError, OperationalError

VERSION = 1

READY, DELAYED, HELD, PARKED, DEAD = range(5)
"""Values of ``messages.state``."""
PLACES: tuple[Place, ...] = ("ready", "delayed", "held", "parked", "dead")
"""Their names, in their order."""

_Name = sa.String(255).with_variant(mysql.VARCHAR(255, charset="utf8mb4", collation="utf8mb4_bin"), "mysql", "mariadb")
_Text = sa.Text().with_variant(mysql.TEXT(charset="utf8mb4", collation="utf8mb4_bin"), "mysql", "mariadb")
_Bytes = sa.LargeBinary().with_variant(mysql.LONGBLOB(), "mysql", "mariadb")
_Moment = sa.Float(53)
_Id = sa.BigInteger().with_variant(sa.Integer(), "sqlite")

_STORAGE = {
    "fillfactor": 50,
    "autovacuum_vacuum_scale_factor": 0.0,
    "autovacuum_vacuum_threshold": 2000,
    "autovacuum_vacuum_insert_scale_factor": 0.0,
    "autovacuum_vacuum_insert_threshold": 50000,
    "autovacuum_analyze_scale_factor": 0.0,
    "autovacuum_analyze_threshold": 50000,
    "autovacuum_vacuum_cost_delay": 0,
}
"""A queue's rows live for seconds: PostgreSQL has to clear them away often, not after a fifth of the table. Half of a
page is left free for what its rows become when they are claimed, or each would be logged whole a second time."""


class Tables:
    """The tables under one prefix (``key_prefix`` + ``umbel_``)."""

    def __init__(self, prefix: str, kind: Kind) -> None:
        self.prefix = prefix
        self._kind = kind
        self.metadata = sa.MetaData()
        self.messages = self._messages()
        self.consumers = self._table(
            "consumers",
            sa.Column("id", _Id, primary_key=True, autoincrement=True),
            sa.Column("name", _Name, nullable=False),
            sa.Column("ends", _Moment, nullable=False),
            sa.Column("settled", sa.BigInteger, nullable=False),
            sqlite_autoincrement=True,
            postgresql_with={"fillfactor": 50},
        )
        self.publishers = self._table(
            "publishers",
            sa.Column("id", sa.BigInteger, primary_key=True, autoincrement=False),
            sa.Column("batch", sa.BigInteger, nullable=False),
            sa.Column("moment", _Moment, nullable=False),
            postgresql_with={"fillfactor": 50},
        )
        self.queues = self._table(
            "queues", sa.Column("name", _Name, primary_key=True), sa.Column("owner", sa.BigInteger)
        )
        self.bindings = self._table(
            "bindings",
            sa.Column("id", _Id, primary_key=True, autoincrement=True),
            sa.Column("queue", _Name, nullable=False),
            sa.Column("exchange", _Name, nullable=False),
            sa.Column("kind", _Name, nullable=False),
            sa.Column("routing_key", _Name, nullable=False),
            sa.Column("arguments", _Bytes, nullable=False),
            sa.Index(f"ix_{prefix}bindings_exchange", "exchange"),
        )
        self.locks = self._table(
            "locks",
            sa.Column("name", _Name, primary_key=True),
            sa.Column("holder", _Name, nullable=False),
            sa.Column("ends", _Moment, nullable=False),
        )
        self.notes = self._table(
            "notes",
            sa.Column("id", _Id, primary_key=True, autoincrement=True),
            sa.Column("exchange", _Name, nullable=False),
            sa.Column("note", _Bytes, nullable=False),
            sa.Column("moment", _Moment, nullable=False),
            sqlite_autoincrement=True,
        )
        self.listeners = self._table(
            "listeners",
            sa.Column("id", _Id, primary_key=True, autoincrement=True),
            sa.Column("exchange", _Name, nullable=False),
            sa.Column("ends", _Moment, nullable=False),
            sqlite_autoincrement=True,
        )
        self.counters = self._table(
            "counters", sa.Column("name", _Name, primary_key=True), sa.Column("value", sa.BigInteger, nullable=False)
        )
        self.schema = self._table("schema", sa.Column("version", sa.Integer, primary_key=True, autoincrement=False))

    def _table(self, name: str, *parts: Any, **options: Any) -> sa.Table:
        return sa.Table(self.prefix + name, self.metadata, *parts, mysql_engine="InnoDB", **options)

    def _messages(self) -> sa.Table:
        table = self._table(
            "messages",
            sa.Column("id", _Id, primary_key=True, autoincrement=True),
            sa.Column("queue", _Name, nullable=False),
            sa.Column("urgency", sa.SmallInteger, nullable=False),
            sa.Column("priority", sa.SmallInteger, nullable=False),
            sa.Column("state", sa.SmallInteger, nullable=False),
            sa.Column("due", _Moment, nullable=False),
            sa.Column("consumer", sa.BigInteger),
            sa.Column("deliveries", sa.Integer, nullable=False, server_default="0"),
            sa.Column("task", _Text, nullable=False),
            sa.Column("headers", _Bytes, nullable=False),
            sa.Column("body", _Bytes, nullable=False),
            sa.Column("content_type", _Text, nullable=False),
            sa.Column("content_encoding", _Text, nullable=False),
            sa.Column("reply_to", _Text, nullable=False),
            sa.Column("correlation_id", _Text, nullable=False),
            sa.Column("exchange", _Text, nullable=False),
            sa.Column("routing_key", _Text, nullable=False),
            sa.Column("reason", _Text),
            sqlite_autoincrement=True,
            postgresql_with=_STORAGE,
        )
        state = table.c.state
        if self._kind == "mysql":
            self._index("order", table.c.queue, state, table.c.urgency, table.c.id)
            self._index("waiting", state, table.c.due, table.c.queue)
            self._index("holder", table.c.consumer)
        else:
            self._index("ready", table.c.queue, table.c.urgency, table.c.id, where=state == READY)
            self._index("due", table.c.due, table.c.queue, where=state == DELAYED)
            self._index("held", table.c.consumer, table.c.queue, where=state == HELD)
            self._index("ended", table.c.queue, state, table.c.id, where=state >= PARKED)
        return table

    def _index(self, name: str, *columns: Any, where: Any = None) -> None:
        sa.Index(f"ix_{self.prefix}messages_{name}", *columns, sqlite_where=where, postgresql_where=where)


def create_missing(
    link: Link, metadata: sa.MetaData, turn: str, check: str, sequences: Sequence[sa.Sequence] = ()
) -> None:
    """Create the tables of ``metadata`` and their indexes unless the table ``check`` exists, one process at a time.

    ``turn`` names the lock under which tables are created. Existing tables are left as they are.
    """
    last = metadata.tables[check]
    if has_table(link, last):
        return
    with _turn_to_create(link, turn):
        if has_table(link, last):
            return
        dialect = link.database.engine.dialect
        if dialect.supports_sequences:
            for sequence in sequences:
                link.run(str(CreateSequence(sequence, if_not_exists=True).compile(dialect=dialect)))
        for table in [*(t for t in metadata.sorted_tables if t is not last), last]:
            link.run(str(CreateTable(table, if_not_exists=True).compile(dialect=dialect)))
            for index in sorted(table.indexes, key=lambda index: str(index.name)):
                if not (link.database.kind == "mysql" and _has_index(link, table, index)):
                    statement = CreateIndex(index, if_not_exists=link.database.kind != "mysql")
                    link.run(str(statement.compile(dialect=dialect)))


def has_table(link: Link, table: sa.Table) -> bool:
    """Whether a table exists in its schema, or in the database (or search path) of the link if it has none."""
    if link.database.kind == "sqlite":
        master = f'"{table.schema}".sqlite_master' if table.schema else "sqlite_master"
        return bool(link.rows(f"SELECT 1 FROM {master} WHERE type = 'table' AND name = ?", (table.name,)))
    if link.database.kind == "postgresql":
        names = [name for name in (table.schema, table.name) if name]
        full = ".".join('"' + name.replace('"', '""') + '"' for name in names)
        return link.value("SELECT to_regclass(%s)::text", (full,)) is not None
    sql = f"SELECT 1 FROM information_schema.tables WHERE {_HERE} AND table_name = %s"
    return bool(link.rows(sql, (table.schema, table.name)))


def _has_index(link: Link, table: sa.Table, index: sa.Index) -> bool:
    sql = f"SELECT 1 FROM information_schema.statistics WHERE {_HERE} AND table_name = %s AND index_name = %s"
    return bool(link.rows(sql, (table.schema, table.name, index.name)))


_HERE = "table_schema = COALESCE(%s, DATABASE())"
"""MySQL's schemas are databases."""


@contextmanager
def _turn_to_create(link: Link, turn: str) -> Generator[None]:
    """A transaction on SQLite and PostgreSQL; a named lock on MySQL, where each statement commits by itself."""
    if link.database.kind != "mysql":
        with link.transaction():
            if link.database.kind == "postgresql":
                link.rows("SELECT pg_advisory_xact_lock(hashtext(%s))::text", (turn,))
            yield
        return
    if not link.value("SELECT GET_LOCK(%s, 10)", (turn,)):
        raise OperationalError(f"{link.database.shown}: another process has been creating tables for over 10 s")
    try:
        yield
    finally:
        link.value("SELECT RELEASE_LOCK(%s)", (turn,))


def set_up(link: Link, tables: Tables) -> None:
    """Create the broker's tables if they are missing, and check their version.

    Raises BrokerError when they belong to a newer Umbel.
    """
    create_missing(link, tables.metadata, tables.prefix + "schema", tables.schema.name)
    version = link.value(f"SELECT max(version) FROM {tables.schema.name}")
    if version is None:
        mark = "?" if link.database.kind == "sqlite" else "%s"
        ignore = {
            "sqlite": f"INSERT OR IGNORE INTO {tables.schema.name} VALUES ({mark})",
            "postgresql": f"INSERT INTO {tables.schema.name} VALUES ({mark}) ON CONFLICT DO NOTHING",
            "mysql": f"INSERT IGNORE INTO {tables.schema.name} VALUES ({mark})",
        }
        link.run(ignore[link.database.kind], (VERSION,))
    elif version > VERSION:
        raise BrokerError(
            f"{link.database.shown}: the tables {tables.prefix}* have version {version}, this Umbel knows {VERSION}"
        )
