"""Celery's result tables ``celery_taskmeta`` and ``celery_tasksetmeta``: created, written and read.

A result's payload is the MessagePack array of its columns, so that whoever stores it knows nothing of serializers.
Writing happens on a link, inside the caller's transaction: a settlement stores results in the step that acknowledges.
"""

from __future__ import annotations

import datetime
import threading
from collections.abc import Collection, Mapping, Sequence
from operator import itemgetter
from typing import Any

import msgspec
import sqlalchemy as sa
from sqlalchemy.dialects import mysql, postgresql, sqlite

from umbel.backends.base import Result
from umbel.brokers.sql.arrays import spread
from umbel.brokers.sql.database import Kind, Link
from umbel.brokers.sql.dialects import chunks
from umbel.brokers.sql.tables import create_missing

WRITTEN = (
    "task_id",
    "status",
    "result",
    "date_done",
    "traceback",
    "children",
    "name",
    "args",
    "kwargs",
    "worker",
    "retries",
    "queue",
    "stamps",
)
"""Columns of a payload, in its order, after the task's id."""

_POSTGRESQL_TYPES = (
    *("text", "text", "bytea", "timestamp", "text", "bytea"),
    *("text", "bytea", "bytea", "text", "int", "text", "bytea"),
)
_Blob = sa.LargeBinary().with_variant(mysql.LONGBLOB(), "mysql", "mariadb")
_LongText = sa.Text().with_variant(mysql.LONGTEXT(), "mysql", "mariadb")
_DIALECTS: Mapping[Kind, Any] = {"sqlite": sqlite.dialect, "postgresql": postgresql.dialect, "mysql": mysql.dialect}
_decoder = msgspec.msgpack.Decoder(list[Any])
Columns = tuple[Any, ...]
Stand = tuple[str, Any]
"""State of a task and when it was written: different after each change."""


_ISO_UTC = len("2026-01-31T23:59:59.123456+00:00")


def stored_date(text: str) -> str:
    """An ISO 8601 moment as ``date_done`` is stored. Raises ValueError when it is none."""
    if len(text) == _ISO_UTC and text.endswith("+00:00"):
        return f"{text[:10]} {text[11:26]}"
    return date_of(datetime.datetime.fromisoformat(text))


def date_of(moment: datetime.datetime) -> str:
    """``date_done`` as it is stored: naive UTC with microseconds."""
    return moment.astimezone(datetime.UTC).replace(tzinfo=None).isoformat(" ", "microseconds")


class ResultTable:
    """The two tables on one system. ``names`` and ``schemas`` replace the usual ones, by ``task`` and ``group``."""

    def __init__(
        self, kind: Kind, names: Mapping[str, str] | None = None, schemas: Mapping[str, str] | None = None
    ) -> None:
        self._kind = kind
        names, schemas = names or {}, schemas or {}
        self.metadata = sa.MetaData()
        self._sequences = [
            sa.Sequence("task_id_sequence", schema=schemas.get("task")),
            sa.Sequence("taskset_id_sequence", schema=schemas.get("group")),
        ]
        self._tasks = self._task_table(names.get("task") or "celery_taskmeta", schemas.get("task"))
        self._groups = self._group_table(names.get("group") or "celery_tasksetmeta", schemas.get("group"))
        quoting = _DIALECTS[kind]().identifier_preparer
        self.tasks, self.groups = quoting.format_table(self._tasks), quoting.format_table(self._groups)
        """The tables as they are named in statements."""
        self._sequence_names = {t: quoting.format_sequence(s) for t, s in zip(self._both, self._sequences, strict=True)}
        self.mark = "?" if kind == "sqlite" else "%s"
        self._is_set_up = False
        self._guard = threading.Lock()
        self._numbered: dict[sa.Table, str] = {}

    def _task_table(self, name: str, schema: str | None) -> sa.Table:
        return sa.Table(
            name,
            self.metadata,
            sa.Column("id", sa.Integer, self._sequences[0], primary_key=True, autoincrement=True),
            sa.Column("task_id", sa.String(155), unique=True),
            sa.Column("status", sa.String(50)),
            sa.Column("result", _Blob),
            sa.Column("date_done", sa.DateTime().with_variant(mysql.DATETIME(fsp=6), "mysql", "mariadb"), index=True),
            sa.Column("traceback", _LongText),
            sa.Column("children", _Blob),
            sa.Column("name", sa.String(155)),
            sa.Column("args", _Blob),
            sa.Column("kwargs", _Blob),
            sa.Column("worker", sa.String(155)),
            sa.Column("retries", sa.Integer),
            sa.Column("queue", sa.String(155)),
            sa.Column("stamps", _Blob),
            schema=schema,
            sqlite_autoincrement=True,
            mysql_engine="InnoDB",
            mysql_charset="utf8mb4",
        )

    def _group_table(self, name: str, schema: str | None) -> sa.Table:
        return sa.Table(
            name,
            self.metadata,
            sa.Column("id", sa.Integer, self._sequences[1], primary_key=True, autoincrement=True),
            sa.Column("taskset_id", sa.String(155), unique=True),
            sa.Column("result", _Blob),
            sa.Column("date_done", sa.DateTime().with_variant(mysql.DATETIME(fsp=6), "mysql", "mariadb"), index=True),
            schema=schema,
            sqlite_autoincrement=True,
            mysql_engine="InnoDB",
            mysql_charset="utf8mb4",
        )

    @property
    def channel(self) -> str:
        """The channel on which PostgreSQL tells of new results."""
        return f"umbel_results_{self._tasks.name}"

    def set_up(self, link: Link) -> None:
        """Create the tables unless they exist; once per object, and not inside a transaction."""
        if self._is_set_up:
            return
        with self._guard:
            if not self._is_set_up:
                for table in self._both:
                    create_missing(link, self.metadata, "umbel_results", table.key, self._sequences)
                self._numbered = {table: self._numbering(link, table) for table in self._both}
                self._is_set_up = True

    @property
    def _both(self) -> tuple[sa.Table, sa.Table]:
        return self._tasks, self._groups

    def _numbering(self, link: Link, table: sa.Table) -> str:
        """Where the next ``id`` comes from: "" from the table itself, or the call of the sequence beside it."""
        sequence = self._sequence_names[table]
        if self._kind == "postgresql":
            return f"nextval('{sequence}')"
        if self._kind == "sqlite":
            return ""
        sql = (
            "SELECT extra FROM information_schema.columns"
            " WHERE table_schema = COALESCE(%s, DATABASE()) AND table_name = %s AND column_name = 'id'"
        )
        extra = link.value(sql, (table.schema, table.name))
        return "" if "auto_increment" in str(extra).lower() else f"nextval({sequence})"

    # -- writing --

    def write(self, link: Link, results: Sequence[Result]) -> None:
        """Store results and tell those who wait, in the link's transaction. A SUCCESS stays as it is."""
        rows = sorted(_latest(results).values(), key=_by_task_id)
        if not rows:
            return
        if self._kind == "postgresql":
            for part in chunks(rows):
                selected, values = spread(part, _POSTGRESQL_TYPES)
                link.run(self._upsert(f"SELECT {{id}}{selected}"), values)
            link.rows("SELECT pg_notify(%s, %s)::text", (self.channel, _payload([row[0] for row in rows])))
            return
        marks = ", ".join([self.mark] * len(WRITTEN))
        if self._kind == "sqlite":
            link.run_each(self._upsert(f"VALUES ({{id}}{marks})"), rows)
            return
        for part in chunks(rows, 200):
            every = ", ".join([f"({{id}}{marks})"] * len(part))
            link.run(self._upsert(f"VALUES {every}"), [value for row in part for value in row])

    def _upsert(self, values: str) -> str:
        table, numbering = self.tasks, self._numbered[self._tasks]
        columns = ", ".join(WRITTEN)
        insert = (
            f"INSERT INTO {table} ({'id, ' if numbering else ''}{columns}) "
            f"{values.format(id=f'{numbering}, ' if numbering else '')}"
        )
        if self._kind == "mysql":
            kept = (f"{name} = IF(status = 'SUCCESS', {name}, VALUES({name}))" for name in WRITTEN if name != "status")
            last = "status = IF(status = 'SUCCESS', status, VALUES(status))"
            return f"{insert} ON DUPLICATE KEY UPDATE {', '.join(kept)}, {last}"
        changed = ", ".join(f"{name} = excluded.{name}" for name in WRITTEN if name != "task_id")
        return f"{insert} ON CONFLICT (task_id) DO UPDATE SET {changed} WHERE {table}.status <> 'SUCCESS'"

    def save_group(self, link: Link, group_id: str, document: bytes, moment: str) -> None:
        """Store a group's structure, replacing what was there."""
        table, numbering = self.groups, self._numbered[self._groups]
        with link.transaction():
            link.run(f"DELETE FROM {table} WHERE taskset_id = {self.mark}", (group_id,))
            columns = f"{'id, ' if numbering else ''}taskset_id, result, date_done"
            values = f"{f'{numbering}, ' if numbering else ''}{', '.join([self.mark] * 3)}"
            link.run(f"INSERT INTO {table} ({columns}) VALUES ({values})", (group_id, document, moment))

    # -- reading --

    def read(self, link: Link, task_ids: Collection[str]) -> list[Columns]:
        """The columns ``WRITTEN`` of those tasks of which anything is known."""
        return self._among(link, ", ".join(WRITTEN), task_ids)

    def stands(self, link: Link, task_ids: Collection[str]) -> dict[str, Stand]:
        """How those tasks stand of which anything is known."""
        return {row[0]: (row[1], row[2]) for row in self._among(link, "task_id, status, date_done", task_ids)}

    def _among(self, link: Link, columns: str, task_ids: Collection[str]) -> list[Any]:
        found: list[Any] = []
        for part in chunks(list(task_ids), 500):
            if self._kind == "postgresql":
                found += link.rows(f"SELECT {columns} FROM {self.tasks} WHERE task_id = ANY(%s::text[])", (list(part),))
            else:
                marks = ", ".join([self.mark] * len(part))
                found += link.rows(f"SELECT {columns} FROM {self.tasks} WHERE task_id IN ({marks})", list(part))
        return found

    def remove(self, link: Link, task_ids: Collection[str]) -> None:
        """Forget tasks."""
        for part in chunks(sorted(task_ids), 500):
            marks = ", ".join([self.mark] * len(part))
            link.run(f"DELETE FROM {self.tasks} WHERE task_id IN ({marks})", list(part))

    def remove_older(self, link: Link, moment: str, failed: bool | None = None) -> int:
        """Delete results done before ``moment``: of failures only, of the others only, or all; groups with all."""
        sql = f"DELETE FROM {self.tasks} WHERE date_done < {self.mark}"
        if failed is not None:
            sql += f" AND status {'' if failed else 'NOT '}IN ('FAILURE', 'REVOKED')"
        count = link.run(sql, (moment,))
        if not failed:
            link.run(f"DELETE FROM {self.groups} WHERE date_done < {self.mark}", (moment,))
        return count


_by_task_id = itemgetter(0)
"""All writers go through the rows in this order, so that none waits for one that waits for it."""


def stand_of(row: Columns) -> Stand:
    """How the task in a row of ``WRITTEN`` stands."""
    return row[1], row[3]


def _latest(results: Sequence[Result]) -> dict[str, Columns]:
    """Rows by task: the last of each, but a SUCCESS before any other."""
    rows: dict[str, Columns] = {}
    for result in results:
        before = rows.get(result.task_id)
        if before is None or before[1] != "SUCCESS":
            rows[result.task_id] = (result.task_id, result.state, *_decoder.decode(result.payload))
    return rows


def _payload(task_ids: Sequence[str]) -> str:
    """The ids for those who wait; "" (any) when they are too many for one notification."""
    text = " ".join(task_ids)
    return text if len(text.encode()) < 7900 else ""
