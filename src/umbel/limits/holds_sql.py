"""Holds and claims in a SQL database, by the database's clock.

Who asks for a place locks the row of the limit in ``paces`` first, always in the order of keys, so that one at a time
counts and nobody waits for another in a circle.
"""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Callable, Generator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, TypeVar

import sqlalchemy as sa
from sqlalchemy.dialects import mysql

from umbel.brokers.sql.database import Database, Link
from umbel.brokers.sql.dialects import dialect_for
from umbel.brokers.sql.faults import Conflict
from umbel.brokers.sql.tables import create_missing
from umbel.limits import holds_line as line
from umbel.limits.holds_store import ANY, Claim, Hold, HoldStore, Wish

if TYPE_CHECKING:
    from umbel.backends.sql import SQLBackend
    from umbel.brokers.sql.broker import SQLBroker

T = TypeVar("T")

_ATTEMPTS = 8
_Name = sa.String(255).with_variant(mysql.VARCHAR(255, charset="utf8mb4", collation="utf8mb4_bin"), "mysql", "mariadb")
_Moment = sa.Float(53)


def _tables(prefix: str) -> sa.MetaData:
    metadata = sa.MetaData()

    def table(name: str, *parts: sa.Column[str] | sa.Column[float] | sa.Index) -> None:
        sa.Table(prefix + name, metadata, *parts, mysql_engine="InnoDB")

    def key(name: str) -> sa.Column[str]:
        return sa.Column(name, _Name, primary_key=True)

    def moment(name: str, nullable: bool = False) -> sa.Column[float]:
        return sa.Column(name, _Moment, nullable=nullable)

    table("holds", key("name"), key("token"), moment("ends"))
    table(
        "waiting",
        key("name"),
        key("task_id"),
        moment("arrived"),
        moment("due"),
        sa.Index(f"ix_{prefix}waiting_arrived", "name", "arrived"),
        sa.Index(f"ix_{prefix}waiting_due", "name", "due"),
    )
    table("claims", key("name"), sa.Column("owner", _Name, nullable=False), moment("ends"))
    table("paces", key("name"), moment("mean", nullable=True), moment("latest"))
    return metadata


def open_store(driver: SQLBroker | SQLBackend, prefix: str, timeout: float) -> HoldStore:
    """The store in a driver's database, whose own time-outs hold."""
    return SQLHolds(driver.database, prefix)


class SQLHolds:
    """See ``HoldStore``. ``prefix`` stands before the names of tables."""

    def __init__(self, database: Database, prefix: str) -> None:
        self._database = database
        self._prefix = f"{prefix}umbel_"
        self._dialect = dialect_for(database.kind, self._prefix)
        self._locking = "" if database.kind == "sqlite" else " FOR UPDATE"
        self._set_up = False
        self._setting_up = threading.Lock()

    @contextmanager
    def _transaction(self) -> Generator[Link]:
        """On SQLite one that need not reach the disk: leases that a loss of power ends are of no use after it."""
        with self._database.borrowed() as link:
            if self._database.kind == "sqlite":
                link.run("PRAGMA synchronous=NORMAL")
            if not self._set_up:
                with self._setting_up:
                    create_missing(link, _tables(self._prefix), f"{self._prefix}holds", f"{self._prefix}paces")
                    self._set_up = True
            with link.transaction():
                yield link

    def _repeat(self, action: Callable[[Link], T]) -> T:
        """What ``action`` gives in a transaction; again where it was undone for another one's sake."""
        for _ in range(_ATTEMPTS):
            try:
                with self._transaction() as link:
                    return action(link)
            except Conflict:
                time.sleep(random.uniform(0.001, 0.02))
        with self._transaction() as link:
            return action(link)

    def _sql(self, text: str) -> str:
        return self._dialect.sql(text)

    # -- holds --

    def acquire(self, wishes: Sequence[Wish], ttl: float) -> list[float]:
        def act(link: Link) -> list[float]:
            now = float(link.value(self._sql("SELECT {now}")))
            counted = {key: self._lock(link, key, now) for key in sorted({wish.key for wish in wishes})}
            pauses: list[float] = []
            for number, wish in enumerate(wishes):
                mean, last, count = counted[wish.key]
                duration = line.reckoned(mean, now - last, count)
                pause = self._pause(link, wish, duration, count, now + number * 1e-6)
                if not pause:
                    self._dialect.add_if_missing(link, "holds", "name, token, ends", (wish.key, wish.token, now + ttl))
                    counted[wish.key] = mean, now, count + 1
                pauses.append(pause)
            for key, (_, last, _) in counted.items():
                if last == now:
                    link.run(self._sql("UPDATE {p}paces SET latest = %s WHERE name = %s"), (now, key))
            return pauses

        return self._repeat(act)

    def _lock(self, link: Link, key: str, now: float) -> tuple[float | None, float, int]:
        """Mean duration and latest admission of a limit, which nobody else counts before the end of the transaction,
        and how many hold it."""
        row = self._sql("SELECT mean, latest FROM {p}paces WHERE name = %s") + self._locking
        found = link.rows(row, (key,))
        if not found:
            self._dialect.add_if_missing(link, "paces", "name, latest", (key, 0.0))
            found = link.rows(row, (key,))
        link.run(self._sql("DELETE FROM {p}holds WHERE name = %s AND ends <= %s"), (key, now))
        gone = now - line.FORGOTTEN
        link.run(self._sql("DELETE FROM {p}waiting WHERE name = %s AND due <= %s"), (key, gone))
        count = link.value(self._sql("SELECT count(*) FROM {p}holds WHERE name = %s"), (key,))
        return found[0][0], found[0][1], count

    def _pause(self, link: Link, wish: Wish, duration: float, count: int, now: float) -> float:
        """0.0: it may be held."""
        ours = (wish.key, wish.task_id)
        arrived = link.value(self._sql("SELECT arrived FROM {p}waiting WHERE name = %s AND task_id = %s"), ours)
        if wish.able and count < wish.limit:
            kept = 0
            if arrived is None:
                kept = self._kept(link, wish.key, duration, now)
            if wish.limit - count > kept:
                if arrived is not None:
                    link.run(self._sql("DELETE FROM {p}waiting WHERE name = %s AND task_id = %s"), ours)
                return 0.0
        before = (wish.key, now if arrived is None else arrived)
        rank = link.value(self._sql("SELECT count(*) FROM {p}waiting WHERE name = %s AND arrived < %s"), before)
        pause = line.pause(rank, wish.limit, duration)
        if arrived is None:
            columns, values = "name, task_id, arrived, due", (*ours, now, now + pause)
            self._dialect.add_if_missing(link, "waiting", columns, values)
        else:
            change = "UPDATE {p}waiting SET due = %s WHERE name = %s AND task_id = %s"
            link.run(self._sql(change), (now + pause, *ours))
        return pause

    def _kept(self, link: Link, key: str, duration: float, now: float) -> int:
        """How many places are for those who will be back soon."""
        expected = self._sql("SELECT count(*), min(due) FROM {p}waiting WHERE name = %s AND due <= %s")
        ((count, first),) = link.rows(expected, (key, now + line.in_front(duration)))
        return count if count and first > now - line.LATE else 0

    def renew(self, holds: Sequence[Hold], ttl: float) -> list[Hold]:
        def act(link: Link) -> list[Hold]:
            keep = self._sql("UPDATE {p}holds SET ends = {now} + %s WHERE name = %s AND token = %s")
            return [hold for hold in sorted(holds) if not link.run(keep, (ttl, *hold))]

        return self._repeat(act)

    def restore(self, holds: Sequence[Hold], ttl: float) -> None:
        def act(link: Link) -> None:
            ends = link.value(self._sql("SELECT {now} + %s"), (ttl,))
            for hold in sorted(holds):
                self._dialect.add_if_missing(link, "holds", "name, token, ends", (*hold, ends))

        self._repeat(act)

    def release(self, ended: Sequence[tuple[Hold, float]]) -> None:
        def act(link: Link) -> None:
            row = self._sql("SELECT mean FROM {p}paces WHERE name = %s") + self._locking
            for key in sorted({hold.key for hold, _ in ended}):
                mean = link.value(row, (key,))
                for hold, duration in ended:
                    drop = self._sql("DELETE FROM {p}holds WHERE name = %s AND token = %s")
                    if hold.key == key and link.run(drop, hold):
                        mean = line.mean_with(mean, duration)
                link.run(self._sql("UPDATE {p}paces SET mean = %s WHERE name = %s"), (mean, key))

        self._repeat(act)

    # -- claims --

    def claim(self, claims: Sequence[Claim]) -> list[str]:
        def act(link: Link) -> list[str]:
            owners = [""] * len(claims)
            for at in sorted(range(len(claims)), key=lambda at: claims[at].key):
                owners[at] = self._claim(link, claims[at])
            return owners

        return self._repeat(act)

    def _claim(self, link: Link, claim: Claim) -> str:
        take = (
            "UPDATE {p}claims SET owner = %s, ends = {now} + %s"
            " WHERE name = %s AND (owner = %s OR owner = %s OR %s = %s OR ends <= {now})"
        )
        given = (claim.task_id, claim.ttl, claim.key, claim.task_id, claim.instead_of, claim.instead_of, ANY)
        owner = self._sql("SELECT owner FROM {p}claims WHERE name = %s") + self._locking
        for _ in range(_ATTEMPTS):
            if link.run(self._sql(take), given):
                return claim.task_id
            ends = link.value(self._sql("SELECT {now} + %s"), (claim.ttl,))
            if self._dialect.add_if_missing(link, "claims", "name, owner, ends", (claim.key, claim.task_id, ends)):
                return claim.task_id
            found = link.value(owner, (claim.key,))
            if found is not None:
                return found
        raise Conflict(f"{self._database.shown}: the unique key {claim.key!r} comes and goes")

    def unclaim(self, claims: Sequence[tuple[str, str]]) -> None:
        def act(link: Link) -> None:
            for claim in sorted(claims):
                link.run(self._sql("DELETE FROM {p}claims WHERE name = %s AND owner = %s"), claim)

        self._repeat(act)

    # -- life --

    def tidy(self) -> None:
        def act(link: Link) -> None:
            link.run(self._sql("DELETE FROM {p}claims WHERE ends <= {now}"))
            link.run(self._sql("DELETE FROM {p}holds WHERE ends <= {now}"))
            link.run(self._sql("DELETE FROM {p}waiting WHERE due <= {now} - %s"), (line.FORGOTTEN,))
            link.run(self._sql("DELETE FROM {p}paces WHERE latest <= {now} - %s"), (line.KEPT,))

        self._repeat(act)
