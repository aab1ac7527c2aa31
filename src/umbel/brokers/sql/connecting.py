"""How connections to each system are made, so that no statement can hang and every one sees the same modes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from umbel.brokers.sql.database import Kind

_GRACE = 2.0
"""Seconds that the client waits for longer than the server was told to."""


def arguments(
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
            "connect_timeout": max(2, round(connect_timeout)),
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
        "connect_timeout": max(1, round(connect_timeout)),
        "read_timeout": patience + _GRACE,
        "write_timeout": patience + _GRACE,
        "init_command": "SET SESSION transaction_isolation='READ-COMMITTED', time_zone='+00:00', "
        f"innodb_lock_wait_timeout={max(1, int(patience))}",
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
    """Set the modes of a new SQLite connection: a write-ahead log, so that readers and a writer do not wait."""
    connection.execute("PRAGMA journal_mode=WAL")
    connection.execute("PRAGMA journal_size_limit=67108864")
    connection.execute("PRAGMA temp_store=MEMORY")


class PatientConnect:
    """Makes PostgreSQL connections whose every wait ends, even when the server is frozen or cut off silently."""

    def __init__(self, patience: float) -> None:
        self._patience = patience + _GRACE

    def __call__(self, _dialect: Any, _record: Any, args: tuple[Any, ...], keywords: dict[str, Any]) -> Any:
        import psycopg

        patience = self._patience

        class PatientConnection(psycopg.Connection[Any]):
            def wait(self, gen: Any, interval: float = 0.1, timeout: float | None = None) -> Any:
                return super().wait(gen, interval, patience if timeout is None else timeout)

        return PatientConnection.connect(*args, **keywords)
