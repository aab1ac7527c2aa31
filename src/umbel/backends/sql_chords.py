"""Ends of members of chords in SQL: which have ended, and whether that is all.

Writing happens on a link, inside the caller's transaction: where broker and results are one database, in the step in
which the member is acknowledged. All who write of one chord queue for its row, so that one of them sees it complete.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Sequence
from typing import Any

import sqlalchemy as sa
from sqlalchemy.dialects import mysql

from umbel.backends.base import Part
from umbel.brokers.sql.database import Kind, Link
from umbel.brokers.sql.dialects import chunks
from umbel.brokers.sql.tables import create_missing

_Blob = sa.LargeBinary().with_variant(mysql.LONGBLOB(), "mysql", "mariadb")
_Name = sa.String(155).with_variant(mysql.VARCHAR(155, collation="utf8mb4_bin"), "mysql", "mariadb")
_FOR_EVER = 10 * 365 * 86400.0
_ROWS = 200
_CHORDS, _PARTS = "umbel_chords", "umbel_chord_parts"


class ChordTable:
    """The tables ``umbel_chords`` (one row for each chord) and ``umbel_chord_parts`` (one for each ended member)."""

    def __init__(self, kind: Kind) -> None:
        self._kind = kind
        self.metadata = sa.MetaData()
        table: dict[str, Any] = {"mysql_engine": "InnoDB", "mysql_charset": "utf8mb4"}
        sa.Table(
            _CHORDS,
            self.metadata,
            sa.Column("id", _Name, primary_key=True),
            sa.Column("ended", sa.Integer, nullable=False),
            sa.Column("added", sa.Integer, nullable=False),
            sa.Column("claimant", sa.String(155)),
            sa.Column("expires", sa.Double, nullable=False),
            sa.Index("ix_umbel_chords_expires", "expires"),
            **table,
        )
        sa.Table(
            _PARTS,
            self.metadata,
            sa.Column("chord", _Name, primary_key=True),
            sa.Column("position", sa.Integer, primary_key=True),
            sa.Column("member", _Name, primary_key=True),
            sa.Column("payload", _Blob, nullable=False),
            **table,
        )
        self._mark = "?" if kind == "sqlite" else "%s"
        self._ignore = "IGNORE " if kind == "mysql" else "OR IGNORE " if kind == "sqlite" else ""
        self._on_conflict = " ON CONFLICT DO NOTHING" if kind == "postgresql" else ""
        self._is_set_up = False
        self._guard = threading.Lock()

    def set_up(self, link: Link) -> None:
        """Create the tables unless they exist; once per object, and not inside a transaction."""
        if self._is_set_up:
            return
        with self._guard:
            if not self._is_set_up:
                create_missing(link, self.metadata, "umbel_results", _CHORDS)
                self._is_set_up = True

    def _sql(self, text: str) -> str:
        return text.replace("%s", self._mark)

    def _insert(self, table: str, columns: str, count: int, rows: int = 1) -> str:
        """Adds rows, except for those that exist."""
        marks = ", ".join([f"({', '.join(['%s'] * count)})"] * rows)
        return self._sql(f"INSERT {self._ignore}INTO {table} ({columns}) VALUES {marks}{self._on_conflict}")

    def add(self, link: Link, parts: Sequence[Part], once: bool) -> list[Part]:
        """Note ends, in the link's transaction; parts with which their chord is complete, one for each chord.

        ``once``: only where a part was not there before.
        """
        by_chord: dict[str, list[Part]] = {}
        for part in parts:
            by_chord.setdefault(part.chord, []).append(part)
        complete: list[Part] = []
        for chord in sorted(by_chord):
            some = by_chord[chord]
            ends = time.time() + (max(part.expires for part in some) or _FOR_EVER)
            link.run(self._insert(_CHORDS, "id, ended, added, expires", 4), (chord, 0, 0, ends))
            fresh, added = self._add_parts(link, some)
            change = f"UPDATE {_CHORDS} SET ended = ended + %s, added = added + %s, expires = %s WHERE id = %s"
            link.run(self._sql(change), (fresh, added, ends, chord))
            ((ended, more, claimant),) = link.rows(
                self._sql(f"SELECT ended, added, claimant FROM {_CHORDS} WHERE id = %s"), (chord,)
            )
            if claimant != "" and (fresh or not once) and ended >= some[-1].size + more:
                complete.append(some[-1])
        return complete

    def _add_parts(self, link: Link, parts: Sequence[Part]) -> tuple[int, int]:
        """How many of these parts of one chord were not there before, and how many members those had added."""
        fresh = added = 0
        at_once = 1 if any(part.added for part in parts) else _ROWS
        for some in chunks(parts, at_once):
            sql = self._insert(_PARTS, "chord, position, member, payload", 4, len(some))
            count = link.run(sql, [v for part in some for v in (part.chord, part.index, part.member, part.payload)])
            fresh += count
            added += some[0].added * count
        return fresh, added

    def claim(self, link: Link, chord: str, claimant: str) -> bool:
        """In the link's transaction. Nobody else finishes a chord of which nothing is known any more."""
        sql = f"UPDATE {_CHORDS} SET claimant = %s WHERE id = %s AND claimant IS NULL"
        if link.run(self._sql(sql), (claimant, chord)) > 0:
            return True
        return link.value(self._sql(f"SELECT claimant FROM {_CHORDS} WHERE id = %s"), (chord,)) in (claimant, None)

    def payloads(self, link: Link, chord: str) -> list[bytes]:
        sql = f"SELECT payload FROM {_PARTS} WHERE chord = %s ORDER BY position, member"
        return [bytes(row[0]) for row in link.rows(self._sql(sql), (chord,))]

    def close(self, link: Link, chords: Sequence[str]) -> None:
        """Forget the parts; the chord's row stays until it expires, with nobody as its claimant."""
        for chord in sorted(chords):
            link.run(self._sql(f"UPDATE {_CHORDS} SET claimant = '' WHERE id = %s"), (chord,))
            link.run(self._sql(f"DELETE FROM {_PARTS} WHERE chord = %s"), (chord,))

    def remove_expired(self, link: Link) -> None:
        """Delete chords whose time is over, finished or not."""
        old = self._sql(f"SELECT id FROM {_CHORDS} WHERE expires < %s")
        for (chord,) in link.rows(old, (time.time(),)):
            link.run(self._sql(f"DELETE FROM {_PARTS} WHERE chord = %s"), (chord,))
            link.run(self._sql(f"DELETE FROM {_CHORDS} WHERE id = %s"), (chord,))
