"""Revocations in a table of their own, which is made when the first one looks for them.

``moment`` is the database's time when a record was noted. Whoever noted it may commit a little later, so those of the
last seconds are read again each time.
"""

from __future__ import annotations

from collections.abc import Generator, Sequence
from contextlib import contextmanager

import sqlalchemy as sa
from sqlalchemy.dialects import mysql

from umbel.brokers.sql.database import Database, Link
from umbel.brokers.sql.dialects import dialect_for
from umbel.brokers.sql.tables import create_missing
from umbel.revocations import Noted, Revocation, Revocations, encode_record, read_records

_SLACK = 2.0
"""Seconds that a transaction may take at most beyond the patience that the database has with its statements."""


class SQLRevocations(Revocations):
    """See :class:`Revocations`. ``prefix``: of the table's name."""

    def __init__(self, database: Database, prefix: str) -> None:
        self._database = database
        self._dialect = dialect_for(database.kind, prefix)
        self._turn = f"{prefix}schema"
        self._overlap = database.patience + _SLACK
        self._metadata = sa.MetaData()
        self._table = sa.Table(
            f"{prefix}revocations",
            self._metadata,
            sa.Column("id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), primary_key=True, autoincrement=True),
            sa.Column("moment", sa.Float(53), nullable=False, index=True),
            sa.Column("ends", sa.Float(53), nullable=False),
            sa.Column("record", sa.LargeBinary().with_variant(mysql.LONGBLOB(), "mysql", "mariadb"), nullable=False),
            mysql_engine="InnoDB",
        )
        self._is_set_up = False

    @contextmanager
    def _link(self) -> Generator[Link]:
        with self._database.borrowed() as link:
            if not self._is_set_up:
                create_missing(link, self._metadata, self._turn, self._table.name)
                self._is_set_up = True
            yield link

    def note(self, records: Sequence[Revocation], seconds: float) -> None:
        add = "INSERT INTO {p}revocations (moment, ends, record) VALUES ({now}, {now} + %s, %s)"
        with self._link() as link, link.transaction():
            link.run(self._dialect.sql("DELETE FROM {p}revocations WHERE ends <= {now}"))
            link.run_each(self._dialect.sql(add), [(seconds, encode_record(record)) for record in records])

    def since(self, mark: float) -> tuple[float, list[Noted]]:
        read = "SELECT ends - {now}, record FROM {p}revocations WHERE moment > %s AND ends > {now} ORDER BY id"
        with self._link() as link:
            moment: float = link.value(self._dialect.sql("SELECT {now}"))
            rows = link.rows(self._dialect.sql(read), (mark - self._overlap,))
        return float(moment), read_records((bytes(record), float(seconds)) for seconds, record in rows)
