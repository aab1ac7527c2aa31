"""One SQL database as Umbel uses it: its URL, its engine, links to it, and its errors in Umbel's words.

SQLAlchemy makes and pools the connections; statements then go straight through the driver's cursor, since compiling
them for each batch costs more than running them. Links are in autocommit mode and transactions are explicit.
Broker and result store of the same URL are two ``Database`` objects with equal ``key``.
"""

from __future__ import annotations

import logging
import os
import random
import threading
import time
from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any, Literal, TypeVar

import sqlalchemy
import sqlalchemy.exc
from sqlalchemy import event
from sqlalchemy.engine import URL, Engine
from sqlalchemy.pool import PoolProxiedConnection

from umbel.brokers.sql.connecting import GRACE, PatientConnect, connect_arguments, prepare_mysql, prepare_sqlite
from umbel.brokers.sql.faults import Conflict, fault_of
from umbel.brokers.sql.forking import SQLITE
from umbel.errors import ConfigurationError, OperationalError, UmbelError
from umbel.urls import normalise, redact

logger = logging.getLogger(__name__)

T = TypeVar("T")

Kind = Literal["sqlite", "postgresql", "mysql"]

_DRIVERS: Mapping[str, tuple[Kind, str]] = {
    "sqlite": ("sqlite", "sqlite"),
    "postgresql": ("postgresql", "postgresql+psycopg"),
    "mysql": ("mysql", "mysql+pymysql"),
    "mariadb": ("mysql", "mysql+pymysql"),
}
_NEXT_TRY = (0.0002, 0.002)
"""Seconds between the tries of one who waits for another process to have written into SQLite's file, at least and at
most. SQLite's own waits grow to a tenth of a second; a process that writes again and again is then not met between two
transactions for seconds, and does all the work."""
_TURN = 0.1
"""Seconds for which a process writes without a pause in which another one could begin."""
_PAUSE = 0.0025
"""Such a pause in seconds: longer than others wait between two tries."""
_abandoned: list[Any] = []
"""Pools inherited by a forked child. Collecting them would end the parent's sessions, so they are kept."""


def database_url(url: str) -> URL:
    """The SQLAlchemy URL of a broker's or backend's ``url``; equal for equal databases.

    Raises ConfigurationError for an unknown system and for SQLite without a file.
    """
    try:
        parsed = sqlalchemy.make_url(normalise(url))
    except (sqlalchemy.exc.ArgumentError, ValueError) as error:
        raise ConfigurationError(f"not the URL of a SQL database: {redact(url)!r} ({error})") from error
    family = parsed.get_backend_name()
    if family not in _DRIVERS:
        raise ConfigurationError(
            f"{redact(url)!r}: SQL databases are sqlite://, postgresql://, mysql:// and mariadb://"
        )
    kind, driver = _DRIVERS[family]
    if kind == "sqlite":
        if parsed.database in (None, "", ":memory:") or "memory" in (parsed.query.get("mode"), parsed.query.get("vfs")):
            raise ConfigurationError(
                f"{redact(url)!r} names no file, and SQLite in memory cannot be shared between processes:"
                " use memory:// or sqlite:///path/of/a/file"
            )
        parsed = parsed.set(database=os.path.realpath(os.path.expanduser(parsed.database or "")))
    return parsed.set(drivername=driver)


class Link:
    """One connection, used by one thread at a time. Its methods raise OperationalError, or ``database.refusal``."""

    def __init__(self, database: Database, pooled: PoolProxiedConnection) -> None:
        self.database = database
        self._pooled = pooled
        self._discarded = False
        self._inside = database.inside
        self._limit = database.patience
        self._is_file = database.kind == "sqlite"
        self.driver: Any = pooled.driver_connection
        self._cursor: Any = self.driver.cursor(binary=True) if database.kind == "postgresql" else self.driver.cursor()
        if database.kind == "postgresql":
            from umbel.brokers.sql.binary import teach

            teach(self._cursor)

    def run(self, sql: str, values: Sequence[Any] = ()) -> int:
        """Execute one statement; how many rows it touched."""
        self._driven(lambda: self._cursor.execute(sql, values))
        return self._cursor.rowcount

    def run_each(self, sql: str, rows: Sequence[Sequence[Any]]) -> int:
        """Execute one statement for each row; how many rows were touched in all."""
        self._driven(lambda: self._cursor.executemany(sql, rows))
        return self._cursor.rowcount

    def rows(self, sql: str, values: Sequence[Any] = ()) -> list[Any]:
        """Execute one statement; all rows that it returns."""

        def fetch() -> list[Any]:
            self._cursor.execute(sql, values)
            return self._cursor.fetchall()

        return self._driven(fetch)

    def value(self, sql: str, values: Sequence[Any] = ()) -> Any:
        """The first column of the first row, None when there is none."""
        found = self.rows(sql, values)
        return found[0][0] if found else None

    def _driven(self, call: Callable[[], T]) -> T:
        """What a call of the driver gives. On SQLite it waits here until other processes have written, as long as the
        link is bound to."""
        deadline = 0.0
        while True:
            try:
                with self._inside:
                    return call()
            except Exception as error:
                fault = self.database.fault(error)
                if not self._is_file or not isinstance(fault, Conflict) or self.driver.in_transaction:
                    raise fault from error
                moment = time.monotonic()
                deadline = deadline or moment + self._limit
                if moment >= deadline:
                    raise fault from error
            time.sleep(random.uniform(*_NEXT_TRY))

    @contextmanager
    def transaction(self) -> Generator[None]:
        """Commit at the end, roll back on an exception. Of SQLite's writers one runs at a time."""
        with self.database.writing(self._limit):
            self.run(self.database.begin)
            try:
                yield
                self.run("COMMIT")
            except BaseException:
                self._roll_back()
                raise

    def _roll_back(self) -> None:
        try:
            if self.database.kind != "sqlite" or self.driver.in_transaction:
                self.run("ROLLBACK")
        except UmbelError:
            self.discard()

    def close(self) -> None:
        """Give the connection back to the pool."""
        if not self._discarded:
            self.bound(self.database.patience)
            with self._inside:
                self._pooled.close()

    def discard(self) -> None:
        """Close the connection for good: its state is unknown."""
        if not self._discarded:
            self._discarded = True
            with self._inside:
                self._pooled.invalidate()
                self._pooled.close()

    def bound(self, seconds: float) -> None:
        """Let each of the following statements take at most ``seconds``, if that is less than usual."""
        limit = min(max(seconds, 0.05), self.database.patience)
        if limit == self._limit:
            return
        self._limit = limit
        wait = limit if limit < self.database.patience else limit + GRACE
        if self.database.kind == "postgresql":
            self.driver.patience = wait
        elif self.database.kind == "mysql":
            self.driver._read_timeout = self.driver._write_timeout = wait


class Database:
    """A database by URL. ``patience`` bounds every statement, in seconds; ``refusal`` is the error for what the
    database refuses. Of ``transport``: ``engine_options`` for SQLAlchemy's ``create_engine``, and ``engine_callback``,
    which is called with each new engine. Safe for threads."""

    def __init__(
        self,
        url: str,
        *,
        refusal: type[UmbelError],
        connect_timeout: float = 4.0,
        patience: float = 10.0,
        ssl: Mapping[str, Any] | bool | None = None,
        transport: Mapping[str, Any] | None = None,
    ) -> None:
        self.url = database_url(url)
        self.kind: Kind = _DRIVERS[self.url.get_backend_name()][0]
        self.key = self.url.set(query={}, password=None).render_as_string()
        self.shown = redact(url)
        self.inside: AbstractContextManager[object] = SQLITE if self.kind == "sqlite" else nullcontext()
        """To be entered around every call of the driver."""
        self.begin = "BEGIN IMMEDIATE" if self.kind == "sqlite" else "BEGIN"
        self.patience = patience
        self._refusal = refusal
        self._connect_timeout = connect_timeout
        self._ssl = ssl
        self._transport = dict(transport or {})
        self._connect = PatientConnect(self.kind, connect_timeout, patience)
        self._engine: Engine | None = None
        self._guard = threading.Lock()
        self._writer = threading.Lock()
        self._turn_began = self._written = 0.0
        """When this process last began to write after a pause, and when it last ended (monotonic seconds)."""

    @property
    def engine(self) -> Engine:
        """Made on first use."""
        with self._guard:
            if self._engine is None:
                self._engine = self._create_engine()
            return self._engine

    def _create_engine(self) -> Engine:
        arguments = connect_arguments(self.kind, self._connect_timeout, self.patience, self._ssl)
        options = dict(self._transport.get("engine_options", {}))
        arguments |= dict(options.pop("connect_args", {}))
        pool = {} if "poolclass" in options else {"pool_size": 4, "max_overflow": -1}
        options = {"pool_reset_on_return": None} | pool | options
        try:
            engine = sqlalchemy.create_engine(self.url, connect_args=arguments, **options)
        except (TypeError, sqlalchemy.exc.ArgumentError) as error:
            raise ConfigurationError(f"engine options for {self.shown}: {error}") from error
        if self.kind == "sqlite":
            event.listen(engine, "connect", prepare_sqlite)
        else:
            event.listen(engine, "do_connect", self._connect)
        if self.kind == "mysql":
            event.listen(engine, "connect", prepare_mysql)
        if callback := self._transport.get("engine_callback"):
            callback(engine)
        return engine

    def link(self, *, durable: bool = True, within: float | None = None) -> Link:
        """A connection, made ``within`` that many seconds if a new one is needed.

        On SQLite a ``durable`` one waits at each commit until the disk has it; what others commit survives the death
        of processes, and can be undone, latest first, by a loss of power.
        """
        try:
            with self._connect.within(within), self.inside:
                link = Link(self, self.engine.raw_connection())
        except UmbelError:
            raise
        except Exception as error:
            raise self.fault(error) from error
        if self.kind == "sqlite":
            link.run(f"PRAGMA synchronous={'FULL' if durable else 'NORMAL'}")
        return link

    @contextmanager
    def borrowed(self, within: float | None = None) -> Generator[Link]:
        """A link for some statements, given back at the end; made, and each of them done, ``within`` so many seconds.

        After an OperationalError it is thrown away, and so are those that lie idle: what broke one of them has mostly
        broken all.
        """
        deadline = time.monotonic() + (self.patience if within is None else within)
        link = self.link(within=within)
        try:
            if within is not None:
                link.bound(deadline - time.monotonic())
            yield link
        except Conflict:
            link.discard()
            raise
        except OperationalError:
            link.discard()
            with self.inside:
                self.engine.dispose()
            raise
        finally:
            link.close()

    def read(self, action: Callable[[Link], T]) -> T:
        """What ``action``, which changes nothing, makes of a link; once more if that link was broken."""
        try:
            with self.borrowed() as link:
                return action(link)
        except OperationalError as error:
            logger.debug("reading is tried again: %s", error)
        with self.borrowed() as link:
            return action(link)

    @contextmanager
    def writing(self, within: float) -> Generator[None]:
        """Wait here for other threads, awake at once, rather than by trying again; and let other processes write.

        Raises OperationalError when there is no turn ``within`` that many seconds.
        """
        if self.kind != "sqlite":
            yield
            return
        if not self._writer.acquire(timeout=within):
            raise OperationalError(f"{self.shown}: no turn to write within {within:.3g} s")
        try:
            self._make_way()
            yield
        finally:
            self._written = time.monotonic()
            self._writer.release()

    def _make_way(self) -> None:
        """Pause for those who wait in other processes, when it is their turn."""
        moment = time.monotonic()
        if moment - self._written < _PAUSE:
            if moment - self._turn_began < _TURN:
                return
            time.sleep(_PAUSE)
            moment = time.monotonic()
        self._turn_began = moment

    def fault(self, error: Exception) -> UmbelError:
        """``error`` of the driver as an error of Umbel."""
        return fault_of(self.kind, self.shown, error, self._refusal)

    def close(self) -> None:
        """Close the pooled connections; a later use opens new ones."""
        with self._guard:
            engine, self._engine = self._engine, None
        if engine is not None:
            with self.inside:
                engine.dispose()

    def after_fork(self) -> None:
        """In a forked child: start anew, touching nothing of the parent's."""
        if self._engine is not None:
            _abandoned.append(self._engine.pool)
            self._engine.dispose(close=False)
            _abandoned.append(self._engine)
        self._engine = None
        self._guard = threading.Lock()
        self._writer = threading.Lock()
