"""Buckets in a SQL database, judged by its clock: each batch is one transaction that locks the rows of its buckets.

========== =======================================================================================
rates      one row per bucket, see ``Bucket``; ``ends`` is when it may be removed
rate_waits the moments that tasks were given, ``due``, by bucket and task id
========== =======================================================================================

All times are the database's. Rows whose time is over are removed once a minute by whoever comes by.
"""

from __future__ import annotations

import threading
import time
from collections import Counter, deque
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

import sqlalchemy as sa
from msgspec.structs import astuple
from sqlalchemy.dialects import mysql

from umbel.brokers.sql.dialects import chunks, dialect_for
from umbel.brokers.sql.faults import Conflict
from umbel.brokers.sql.tables import create_missing
from umbel.limits.buckets import KEEP, OVERDUE, SOON, Ask, Bucket, RateStore

if TYPE_CHECKING:
    from umbel.backends.sql import SQLBackend
    from umbel.brokers.sql.broker import SQLBroker
    from umbel.brokers.sql.database import Database, Link

_PRUNE_EVERY = 60.0
_ATTEMPTS = 3
_COLUMNS = "free, tail, late, pace"

_Name = sa.String(255).with_variant(mysql.VARCHAR(255, charset="utf8mb4", collation="utf8mb4_bin"), "mysql", "mariadb")
_Moment = sa.Float(53)

Place = tuple[str, str]
"""Bucket and task id."""


class SQLRates(RateStore):
    """See the module's docstring."""

    def __init__(self, database: Database, prefix: str) -> None:
        self._database = database
        self._prefix = f"{prefix}umbel_"
        self._dialect = dialect_for(database.kind, self._prefix)
        self._metadata = sa.MetaData()
        self._table("rates", "name", free=_Moment, tail=_Moment, late=_Moment, pace=_Moment, ends=_Moment)
        waits = self._table("rate_waits", "bucket", "task", due=_Moment)
        sa.Index(f"ix_{self._prefix}rate_waits_due", waits.c.due)
        self._is_set_up = False
        self._setting_up = threading.Lock()
        self._pruned = 0.0

    def _table(self, name: str, *keys: str, **columns: Any) -> sa.Table:
        parts = [sa.Column(key, _Name, primary_key=True) for key in keys]
        parts += [sa.Column(column, kind, nullable=False) for column, kind in columns.items()]
        return sa.Table(self._prefix + name, self._metadata, *parts, mysql_engine="InnoDB")

    def take(self, asks: Sequence[Ask]) -> list[float]:
        for _ in range(_ATTEMPTS - 1):
            try:
                return self._take(asks)
            except Conflict:
                continue
        return self._take(asks)

    def _take(self, asks: Sequence[Ask]) -> list[float]:
        with self._database.borrowed() as link:
            self._set_up(link)
            if time.monotonic() - self._pruned > _PRUNE_EVERY:
                self._prune(link)
            with link.transaction():
                buckets = self._lock(link, sorted({ask.bucket for ask in asks}))
                now: float = link.value(self._dialect.sql("SELECT {now}"))
                before = self._given(link, asks)
                overdue = self._overdue(link, asks, now)
                before |= {place: due for several in overdue.values() for place, due in several}
                given = dict(before)
                waits: list[float] = []
                for ask in asks:
                    place = ask.bucket, ask.task_id
                    _exchange(given, place, overdue[ask.bucket], now)
                    moment = buckets[ask.bucket].place(given.get(place), ask.interval, now)
                    if moment <= now + SOON:
                        given.pop(place, None)
                        waits.append(0.0)
                    else:
                        given[place] = moment
                        waits.append(moment - now)
                self._write(link, buckets, before, given, now)
        return waits

    def _set_up(self, link: Link) -> None:
        with self._setting_up:
            if not self._is_set_up:
                last = f"{self._prefix}rates"
                create_missing(link, self._metadata, last, last)
                self._is_set_up = True

    def _prune(self, link: Link) -> None:
        self._pruned = time.monotonic()
        link.run(self._dialect.sql("DELETE FROM {p}rates WHERE ends < {now}"))
        link.run(self._dialect.sql("DELETE FROM {p}rate_waits WHERE due < {now} - %s"), (KEEP,))

    def _lock(self, link: Link, names: Sequence[str]) -> dict[str, Bucket]:
        """The buckets of these names, for this transaction alone."""
        found = self._read(link, names)
        missing = [name for name in names if name not in found]
        if missing:
            for name in missing:
                self._dialect.add_if_missing(link, "rates", f"name, {_COLUMNS}, ends", (name, *([0.0] * 5)))
            found |= self._read(link, missing)
        return found

    def _read(self, link: Link, names: Sequence[str]) -> dict[str, Bucket]:
        locking = "" if self._database.kind == "sqlite" else " FOR UPDATE"
        found: dict[str, Bucket] = {}
        for part in chunks(names, 500):
            among = f"WHERE name IN ({self._dialect.marks(len(part))}) ORDER BY name{locking}"
            rows = link.rows(self._dialect.sql(f"SELECT name, {_COLUMNS} FROM {{p}}rates {among}"), part)
            found |= {name: Bucket(*kept) for name, *kept in rows}
        return found

    def _given(self, link: Link, asks: Sequence[Ask]) -> dict[Place, float]:
        places: dict[str, list[str]] = {}
        for ask in asks:
            places.setdefault(ask.bucket, []).append(ask.task_id)
        found: dict[Place, float] = {}
        for bucket, ids in places.items():
            for part in chunks(ids, 500):
                among = f"WHERE bucket = %s AND task IN ({self._dialect.marks(len(part))})"
                rows = link.rows(self._dialect.sql(f"SELECT task, due FROM {{p}}rate_waits {among}"), (bucket, *part))
                found |= {(bucket, task): due for task, due in rows}
        return found

    def _overdue(self, link: Link, asks: Sequence[Ask], now: float) -> dict[str, deque[tuple[Place, float]]]:
        """By bucket, what may be given to others, earliest first; as many as ask."""
        query = "SELECT task, due FROM {p}rate_waits WHERE bucket = %s AND due <= %s ORDER BY due LIMIT %s"
        found: dict[str, deque[tuple[Place, float]]] = {}
        for bucket, count in Counter(ask.bucket for ask in asks).items():
            rows = link.rows(self._dialect.sql(query), (bucket, now - OVERDUE, count))
            found[bucket] = deque(((bucket, task), due) for task, due in rows)
        return found

    def _write(
        self,
        link: Link,
        buckets: dict[str, Bucket],
        before: dict[Place, float],
        given: dict[Place, float],
        now: float,
    ) -> None:
        update = "UPDATE {p}rates SET free = %s, tail = %s, late = %s, pace = %s, ends = %s WHERE name = %s"
        rows = [
            (*kept, max(*kept[:3], now) + KEEP, name)
            for name, kept in ((name, astuple(bucket)) for name, bucket in buckets.items())
        ]
        link.run_each(self._dialect.sql(update), rows)
        changed = {place: due for place, due in given.items() if before.get(place) != due}
        self._remove(link, (place for place in before if place not in given or place in changed))
        if changed:
            insert = "INSERT INTO {p}rate_waits (bucket, task, due) VALUES (%s, %s, %s)"
            link.run_each(self._dialect.sql(insert), [(*place, due) for place, due in changed.items()])

    def _remove(self, link: Link, places: Iterable[Place]) -> None:
        by_bucket: dict[str, list[str]] = {}
        for bucket, task in places:
            by_bucket.setdefault(bucket, []).append(task)
        for bucket, ids in by_bucket.items():
            for part in chunks(ids, 500):
                among = f"WHERE bucket = %s AND task IN ({self._dialect.marks(len(part))})"
                link.run(self._dialect.sql(f"DELETE FROM {{p}}rate_waits {among}"), (bucket, *part))


def _exchange(given: dict[Place, float], place: Place, overdue: deque[tuple[Place, float]], now: float) -> None:
    """Give ``place`` the earliest moment that is overdue, unless its own has come; whose it was gets its own."""
    own = given.get(place)
    if own is not None and own <= now + SOON:
        return
    while overdue:
        owner, moment = overdue.popleft()
        if given.get(owner) != moment:
            continue
        del given[owner]
        if own is not None:
            given[owner] = own
        given[place] = moment
        return


def open_store(driver: SQLBroker | SQLBackend, prefix: str) -> SQLRates:
    """Buckets in the database of ``driver``, over its connections."""
    return SQLRates(driver.database, prefix)
