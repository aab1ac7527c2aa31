"""Sending: messages into their queues, once, within a deadline.

An answer lost with its connection leaves open whether the batch was stored. Each publishing connection therefore has
a row with the number of its last batch, written in the same transaction: a repeated batch finds its number there and
adds nothing. SQLite runs in this process and loses no answers, so it has no such rows.
"""

from __future__ import annotations

import logging
import secrets
import time
from collections import deque
from collections.abc import Callable, Sequence
from typing import TypeVar

from umbel.brokers.sql.database import Database, Link
from umbel.brokers.sql.dialects import Dialect, PostgreSQL, chunks
from umbel.brokers.sql.faults import Conflict
from umbel.brokers.sql.rows import Row
from umbel.errors import OperationalError, PublishTimeout, UmbelError

BATCH = 5000
"""The most messages sent in one transaction."""
logger = logging.getLogger(__name__)

T = TypeVar("T")
_FIRST_PAUSE, _LONGEST_PAUSE = 0.02, 0.5


def persist(action: Callable[[], T], deadline: float) -> T:
    """What ``action`` returns, tried again and again while the database fails.

    Raises PublishTimeout when it did not succeed before ``deadline`` (monotonic seconds).
    """
    pause = _FIRST_PAUSE
    while True:
        try:
            return action()
        except OperationalError as error:
            if time.monotonic() + pause > deadline:
                raise PublishTimeout(f"not confirmed in time: {error}") from error
        time.sleep(pause)
        pause = min(pause * 2, _LONGEST_PAUSE)


class Publisher:
    """One connection that sends, used by one thread at a time. ``prepare`` is called before each batch."""

    def __init__(self, database: Database, dialect: Dialect, prepare: Callable[[Link, Sequence[Row]], None]) -> None:
        self._database = database
        self._dialect = dialect
        self._prepare = prepare
        self._link: Link | None = None
        self._id = secrets.randbits(62)
        self._batch = 0

    def send(self, rows: Sequence[Row], deadline: float) -> None:
        """Store ``rows`` for sure and once. Raises PublishTimeout."""
        self._batch += 1
        persist(lambda: self._attempt(rows, deadline), deadline)

    def _attempt(self, rows: Sequence[Row], deadline: float) -> None:
        if self._link is None:
            self._link = self._database.link(within=deadline - time.monotonic())
        try:
            self._link.bound(deadline - time.monotonic())
            self._prepare(self._link, rows)
            self._store(self._link, rows)
        except Conflict:
            raise
        except OperationalError:
            self.close()
            raise

    def _store(self, link: Link, rows: Sequence[Row]) -> None:
        dialect = self._dialect
        if isinstance(dialect, PostgreSQL):
            dialect.insert_once(link, self._id, self._batch, rows, dialect.channel)
            return
        with link.transaction():
            if self._database.kind == "sqlite" or self._first_time(link):
                dialect.insert(link, rows)

    def _first_time(self, link: Link) -> bool:
        sql = "UPDATE {p}publishers SET batch = %s, moment = {now} WHERE id = %s AND batch < %s"
        if link.run(self._dialect.sql(sql), (self._batch, self._id, self._batch)) > 0:
            return True
        return self._dialect.add_if_missing(
            link, "publishers", "id, batch, moment", (self._id, self._batch, time.time())
        )

    def close(self) -> None:
        """Drop the connection; the next batch makes a new one."""
        link, self._link = self._link, None
        if link is not None:
            link.discard()

    def retire(self) -> None:
        """Drop the connection for good and remove the row that numbers its batches."""
        if self._link is not None and self._batch and self._database.kind != "sqlite":
            try:
                self._link.run(self._dialect.sql("DELETE FROM {p}publishers WHERE id = %s"), (self._id,))
            except UmbelError as error:
                logger.debug("a publisher's row stays for a day", extra={"error": str(error)})
        self.close()


class Publishers:
    """The publishers of one broker: as many as threads have sent at the same time."""

    def __init__(self, database: Database, dialect: Dialect, prepare: Callable[[Link, Sequence[Row]], None]) -> None:
        self._make = lambda: Publisher(database, dialect, prepare)
        self._idle: deque[Publisher] = deque()

    def send(self, rows: Sequence[Row], deadline: float) -> None:
        """Store ``rows``. Raises PublishTimeout."""
        try:
            publisher = self._idle.pop()
        except IndexError:
            publisher = self._make()
        try:
            for part in chunks(rows, BATCH):
                publisher.send(part, deadline)
        finally:
            self._idle.append(publisher)

    def close(self) -> None:
        """Close the connections of those that are not sending right now."""
        while self._idle:
            self._idle.pop().retire()

    def after_fork(self) -> list[Publisher]:
        """Forget all publishers without touching their connections; returns them, to be kept from collection."""
        abandoned = list(self._idle)
        self._idle.clear()
        return abandoned
