"""How connections to each system are made, so that no statement can hang and every one sees the same modes."""

from __future__ import annotations

import threading
from collections.abc import Callable, Generator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from umbel.brokers.sql.database import Kind

GRACE = 2.0
"""Seconds that the client waits for longer than the server was told to."""


def connect_arguments(
    kind: Kind, connect_timeout: float, patience: float, ssl: Mapping[str, Any] | bool | None
) -> dict[str, Any]:
    """Keyword arguments for the driver's ``connect``. Times are seconds."""
    if kind == "sqlite":
        return {"timeout": patience, "isolation_level": None, "check_same_thread": False, "cached_statements": 256}
    if kind == "postgresql":
        milliseconds = int(patience * 1000)
        settings = {
            "statement_timeout": milliseconds,
            "lock_timeout": milliseconds,
            "idle_in_transaction_session_timeout": milliseconds * 3,
            "default_transaction_isolation": "read\\ committed",
        }
        return {
            "autocommit": True,
            "options": " ".join(f"-c {name}={value}" for name, value in settings.items()),
            "application_name": "umbel",
            "keepalives_idle": 10,
            "keepalives_interval": 3,
            "keepalives_count": 3,
            "tcp_user_timeout": milliseconds,
            **_postgresql_ssl(ssl),
        }
    return {
        "autocommit": True,
        "charset": "utf8mb4",
        "connect_timeout": max(1.0, connect_timeout),
        "read_timeout": patience + GRACE,
        "write_timeout": patience + GRACE,
        "init_command": f"SET SESSION time_zone = '+00:00', innodb_lock_wait_timeout = {max(1, int(patience))}",
        **_mysql_ssl(ssl),
    }


def _postgresql_ssl(ssl: Mapping[str, Any] | bool | None) -> dict[str, Any]:
    if not ssl:
        return {}
    if isinstance(ssl, bool):
        return {"sslmode": "require"}
    names = {"ca_certs": "sslrootcert", "certfile": "sslcert", "keyfile": "sslkey"}
    given = {names.get(name, name): value for name, value in ssl.items() if name not in ("cert_reqs", "check_hostname")}
    if "sslmode" not in given:
        verified = "verify-full" if ssl.get("check_hostname", True) else "verify-ca"
        given["sslmode"] = verified if "sslrootcert" in given else "require"
    return given


def _mysql_ssl(ssl: Mapping[str, Any] | bool | None) -> dict[str, Any]:
    if not ssl:
        return {}
    if isinstance(ssl, bool):
        return {"ssl": {"verify_mode": "none", "check_hostname": False}}
    names = {"ca_certs": "ca", "certfile": "cert", "keyfile": "key"}
    return {"ssl": {names.get(name, name): value for name, value in ssl.items() if name != "cert_reqs"}}


def prepare_sqlite(connection: Any, _record: Any) -> None:
    """Set the modes of a new SQLite connection: a write-ahead log, so that readers and a writer do not wait. Writers
    wait for each other in ``Link``, not in SQLite's busy handler."""
    connection.execute("PRAGMA journal_mode=WAL")
    connection.execute("PRAGMA journal_size_limit=67108864")
    connection.execute("PRAGMA temp_store=MEMORY")
    connection.execute("PRAGMA busy_timeout=0")


def prepare_mysql(connection: Any, _record: Any) -> None:
    """Let a new MySQL connection lock the rows that it finds, not the gaps between those that it passes."""
    with connection.cursor() as cursor:
        cursor.execute("SET SESSION TRANSACTION ISOLATION LEVEL READ COMMITTED")


class PatientConnect:
    """Makes connections within a time, and PostgreSQL's such that every wait of theirs ends.

    Both drivers wait without end for a server that accepts and then says nothing; so another thread makes the
    connection, and is left alone when it takes too long.
    """

    def __init__(self, kind: Kind, connect_timeout: float, patience: float) -> None:
        self._kind = kind
        self._connect_timeout = connect_timeout
        self._patience = patience + GRACE
        self._limit = threading.local()

    @contextmanager
    def within(self, seconds: float | None) -> Generator[None]:
        """Let connections that this thread makes inside take at most ``seconds``."""
        self._limit.seconds = seconds
        try:
            yield
        finally:
            self._limit.seconds = None

    def __call__(self, dialect: Any, _record: Any, args: tuple[Any, ...], keywords: dict[str, Any]) -> Any:
        make = patient_postgresql(self._patience) if self._kind == "postgresql" else dialect.loaded_dbapi.connect
        limit = self._connect_timeout
        if (asked := getattr(self._limit, "seconds", None)) is not None:
            limit = max(0.05, min(limit, asked))
        return _made_within(limit, lambda: make(*args, **keywords))


def patient_postgresql(patience: float) -> Any:
    """``connect`` of a class of connections whose ``patience`` (seconds) bounds every wait for the server."""
    import psycopg

    class PatientConnection(psycopg.Connection[Any]):
        def __init__(self, *args: Any, **keywords: Any) -> None:
            super().__init__(*args, **keywords)
            self.patience = patience

        def wait(self, gen: Any, interval: float = 0.1, timeout: float | None = None) -> Any:
            return super().wait(gen, interval, self.patience if timeout is None else timeout)

    return PatientConnection.connect


def _made_within(limit: float, make: Callable[[], Any]) -> Any:
    """What ``make`` returns; TimeoutError after ``limit`` seconds, and what it then still makes is closed."""
    guard = threading.Lock()
    made: list[Any] = []
    failed: list[BaseException] = []
    late = False

    def run() -> None:
        try:
            connection = make()
        except BaseException as error:
            failed.append(error)
            return
        with guard:
            if not late:
                made.append(connection)
                return
        connection.close()

    thread = threading.Thread(target=run, name="umbel-sql-connect", daemon=True)
    thread.start()
    thread.join(limit)
    with guard:
        late = not made
    if made:
        return made[0]
    if failed:
        raise failed[0]
    raise TimeoutError(f"no connection within {limit:.3g} s")
