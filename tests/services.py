"""Servers for tests: each URL handed out leads to a place of its own on a real server.

A Redis URL has a database number of its own, an SQL URL a database, a RabbitMQ URL a virtual host; all of them are
emptied and given back at the end. A server that does not run is started, and stopped when the session that started
it ends. Where a variable such as `UMBEL_TEST_REDIS_URL` names a server, that one is used: it must be one for tests,
since its databases are emptied.
"""

import os
import secrets
import signal
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, ExitStack, contextmanager
from pathlib import Path
from typing import NoReturn
from urllib.parse import urlsplit

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "scripts"))

from services_lib.catalogue import given_url
from services_lib.errors import NotInstalled, NotReady, ServiceError
from services_lib.processes import Process
from services_lib.rabbitmq import RabbitMQ
from services_lib.registry import Registry
from services_lib.state import Record

HOLDER = "UMBEL_TEST_HOLDER"
"""The variable with the pid of the pytest process that the user started, on whose behalf servers run."""

_LEASE = "umbel-test-database:{}"
_LEASE_SECONDS = 3600

_unavailable: dict[str, str] = {}
_session = ExitStack()
_private_count = 0


def server_url(name: str) -> str:
    """A URL of a fresh, empty place on a running server; it stays until this test process ends.

    Skips the calling test when the server cannot be had, or fails it when `UMBEL_REQUIRE_SERVICES=1`.
    """
    return _session.enter_context(isolated(name))


def base_url(name: str) -> str:
    """The URL of the shared server itself, started if need be. Skips or fails as `server_url` does."""
    if url := given_url(name):
        return url
    if name not in _unavailable:
        try:
            record, _ = Registry().start(name, _holder())
        except NotInstalled as error:
            _unavailable[name] = str(error)
        except (ServiceError, NotReady, OSError) as error:
            _unavailable[name] = f"{error} (to start it by hand: scripts/services start {name})"
        else:
            return record.instance.server.url
    return unavailable(_unavailable[name])


def unavailable(reason: str) -> NoReturn:
    """Skip the running test, or fail it where all services are required."""
    if os.environ.get("UMBEL_REQUIRE_SERVICES") == "1":
        pytest.fail(f"{reason}; UMBEL_REQUIRE_SERVICES=1 makes this a failure", pytrace=False)
    pytest.skip(reason)


def isolated(name: str) -> AbstractContextManager[str]:
    """A context in which its URL leads to a fresh, empty place on that server; removed at its end."""
    return _ISOLATION[name](base_url(name))


def release_session() -> None:
    """Give back every place that `server_url` handed out in this process."""
    _session.close()


def release_holder() -> None:
    """Stop the servers that were started for this test session and that nobody else uses."""
    if (holder := Process.of(os.getpid())) is not None:
        Registry().release(holder)


@contextmanager
def _redis_database(url: str) -> Iterator[str]:
    import redis

    with redis.Redis.from_url(url) as server:
        count = int(server.config_get("databases")["databases"])
        for _ in range(count):
            number = 1 + server.incr("umbel-test-next-database") % (count - 1)
            if server.set(_LEASE.format(number), os.getpid(), nx=True, ex=_LEASE_SECONDS):
                break
        else:
            raise RuntimeError(f"all {count} databases of {url} are in use; its lease keys are umbel-test-database:*")
    place = urlsplit(url)._replace(path=f"/{number}").geturl()

    def empty() -> None:
        with redis.Redis.from_url(place) as database:
            database.flushdb(asynchronous=True)

    empty()
    try:
        yield place
    finally:
        empty()
        with redis.Redis.from_url(url) as server:
            server.delete(_LEASE.format(number))


@contextmanager
def _rabbitmq_vhost(url: str) -> Iterator[str]:
    record = Registry().running("rabbitmq")
    if record is None or record.instance.server.url != url or not isinstance(record.instance.server, RabbitMQ):
        yield url
        return
    name = _name()
    record.instance.server.add_vhost(name)
    try:
        yield urlsplit(url)._replace(path=f"/{name}").geturl()
    finally:
        record.instance.server.delete_vhost(name)


@contextmanager
def _postgresql_database(url: str) -> Iterator[str]:
    import psycopg
    from psycopg.sql import SQL, Identifier

    name = _name()
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute(SQL("CREATE DATABASE {}").format(Identifier(name)))
    try:
        yield urlsplit(url)._replace(path=f"/{name}").geturl()
    finally:
        with psycopg.connect(url, autocommit=True) as connection:
            connection.execute(SQL("DROP DATABASE {} WITH (FORCE)").format(Identifier(name)))


@contextmanager
def _mariadb_database(url: str) -> Iterator[str]:
    import pymysql

    name = _name()
    parts = urlsplit(url)

    def execute(statement: str) -> None:
        connection = pymysql.connect(
            host=parts.hostname, port=parts.port or 3306, user=parts.username, password=parts.password or ""
        )
        with connection, connection.cursor() as cursor:
            cursor.execute(statement)

    execute(f"CREATE DATABASE {name}")
    try:
        yield parts._replace(path=f"/{name}").geturl()
    finally:
        execute(f"DROP DATABASE {name}")


_ISOLATION: Mapping[str, Callable[[str], AbstractContextManager[str]]] = {
    "redis": _redis_database,
    "redis-durable": _redis_database,
    "rabbitmq": _rabbitmq_vhost,
    "postgresql": _postgresql_database,
    "mariadb": _mariadb_database,
}


def _name() -> str:
    return f"umbel_test_{os.getpid()}_{secrets.token_hex(4)}"


def _holder() -> Process:
    pid = int(os.environ.get(HOLDER, os.getpid()))
    holder = Process.of(pid)
    if holder is None:
        raise ServiceError(f"the test session {pid} (variable {HOLDER}) is gone")
    return holder


class PrivateServer:
    """A server of one test's own, to be stopped, killed, frozen and started again with the same port and data."""

    def __init__(self, record: Record) -> None:
        self._record = record
        self._instance = record.instance
        self.server = record.instance.server
        self.url = record.instance.server.url
        self.port = record.instance.server.port
        self.home = record.instance.server.home
        """The directory with its data; of a secured server, `tls` in it has the certificates."""

    @classmethod
    def create(cls, name: str) -> "PrivateServer":
        """Start one on a free port. Skips or fails the calling test as `server_url` does."""
        global _private_count
        _private_count += 1
        try:
            key = f"{name}~{os.getpid()}-{_private_count}"
            return cls(Registry().start_private(name, key, _holder()))
        except (ServiceError, NotReady, OSError) as error:
            reason = f"a private {name} server is needed: {error}"
        return unavailable(reason)

    @property
    def running(self) -> bool:
        return self._instance.running()

    def start(self) -> None:
        """Start it again after `stop` or `kill` and wait until it answers."""
        if not self.running:
            self._instance.start(lambda _: Registry().save(self._record))

    def stop(self) -> None:
        """End it in good order; its data stays."""
        self.resume()
        self._instance.stop()

    def kill(self) -> None:
        """SIGKILL all its processes; its data stays as the crash left it.

        RabbitMQ 3.10 forgets a quorum queue that was declared less than a second before; what was confirmed in an
        older one survives, and so does a durable classic queue.
        """
        self._instance.kill()

    def pause(self) -> None:
        """Freeze all its processes (SIGSTOP): connections stay open and nobody answers."""
        self._signal(signal.SIGSTOP)

    def resume(self) -> None:
        """Undo `pause`."""
        self._signal(signal.SIGCONT)

    def discard(self) -> None:
        """Stop it and delete its data."""
        self.resume()
        Registry().stop(self._record.key, force=True)

    def _signal(self, number: signal.Signals) -> None:
        for process in self._instance.family():
            process.send(number)
