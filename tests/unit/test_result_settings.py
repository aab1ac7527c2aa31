"""Settings of single result stores reach the servers: what the URL does not say of Redis, engines and tables of SQL."""

from __future__ import annotations

import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
import redis
import sqlalchemy

from umbel import Umbel
from umbel.backends.base import Backend, Meta
from umbel.backends.redis import RedisBackend
from umbel.backends.sql import SQLBackend
from umbel.brokers.redis.server import Server
from umbel.errors import BrokerError, ConfigurationError
from umbel.opening import open_backend, open_broker
from umbel.testing import start_worker

ENGINES: list[Any] = []


def backend_of(url: str, **settings: Any) -> Backend:
    return open_backend(Umbel("settings", set_as_current=False, result_backend=url, **settings).conf)


def server_of(url: str, **settings: Any) -> Server:
    backend = backend_of(url, **settings)
    assert isinstance(backend, RedisBackend)
    return backend.server


def keep(backend: Backend, task_id: str) -> Any:
    backend.store([backend.encode(Meta(task_id=task_id, status="SUCCESS", result=task_id))])
    return backend.get([task_id])[task_id].result


# -- Redis -----------------------------------------------------------------------------------------


def test_redis_is_described_by_settings_alone(redis_url: str) -> None:
    parts = urlsplit(redis_url)
    number = int(parts.path[1:])
    backend = backend_of(
        "redis", redis_host=parts.hostname, redis_port=parts.port, redis_db=number, redis_client_name="of-settings"
    )
    assert keep(backend, "by-settings") == "by-settings"
    with redis.Redis.from_url(redis_url) as server:
        assert server.exists("celery-task-meta-by-settings")
        names = {client["name"] for client in server.client_list() if client["db"] == str(number)}
    assert "of-settings" in names
    backend.close()


@pytest.mark.parametrize(
    ("url", "place"),
    [
        ("redis", ("h", 7000, 3, "u", "p@")),
        ("redis://", ("h", 7000, 0, "u", "p@")),
        ("redis://other", ("other", 7000, 0, "u", "p@")),
        ("redis://other:1/2", ("other", 1, 2, "u", "p@")),
        ("redis://:q@other/2?client_name=x", ("other", 7000, 2, "u", "q")),
        ("redis://v:q%40@[::1]:5/2", ("::1", 5, 2, "v", "q@")),
        ("rediss://v@other", ("other", 7000, 0, "v", "p@")),
    ],
)
def test_the_url_goes_before_settings(url: str, place: tuple[Any, ...]) -> None:
    server = server_of(
        url, redis_host="h", redis_port=7000, redis_db=3, redis_username="u", redis_password="p@", redis_client_name="n"
    )
    assert (server.host, server.port, server.db, server.username, server.password) == place
    assert server.client_name == ("x" if "client_name" in url else "n")


def test_a_unix_socket_takes_database_and_login_from_settings() -> None:
    settings: dict[str, Any] = {"redis_host": "h", "redis_db": 3, "redis_password": "p"}
    server = server_of("redis+socket:///run/r.sock", **settings)
    assert (server.path, server.db, server.password) == ("/run/r.sock", 3, "p")
    assert server_of("redis+socket:///run/r.sock?virtual_host=1", **settings).db == 1


def test_without_settings_the_url_is_left_alone() -> None:
    for url in ("redis://", "redis://host:1/2?ssl_cert_reqs=none", "redis+socket:///run/r.sock?virtual_host=2"):
        assert server_of(url).url == url


def test_times_and_keepalive_reach_the_socket(redis_url: str) -> None:
    parts = urlsplit(redis_url)
    settings: dict[str, Any] = {"redis_socket_connect_timeout": 1.5, "redis_backend_health_check_interval": 9.2}
    server = server_of(redis_url, **settings)
    assert server.connect_timeout == 1.5
    with server.connect(1.5) as plain:
        assert plain.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE) == 1
        assert plain.getsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE) == 10
        assert plain.getsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPINTVL) == 3
    with server_of(redis_url, redis_socket_keepalive=False).connect(5) as plain:
        assert plain.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE) == 0
    in_url = f"{redis_url}?socket_keepalive=false&socket_connect_timeout=2&health_check_interval=0"
    server = server_of(in_url, **settings)
    assert (server.keepalive, server.connect_timeout, server.health_check_interval) == (False, 2.0, 0)
    assert server.port == parts.port


def test_options_of_the_broker_reach_its_socket(redis_url: str) -> None:
    options = {"socket_keepalive": True, "socket_keepalive_options": {socket.TCP_KEEPIDLE: 7}, "client_name": "asked"}
    app = Umbel("settings", set_as_current=False, broker_url=redis_url, broker_transport_options=options)
    broker: Any = open_broker(app.conf)
    with broker.server.connect(5) as plain:
        assert plain.getsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE) == 7
    broker.queues()
    with redis.Redis.from_url(redis_url) as server:
        assert "asked" in {client["name"] for client in server.client_list()}
    broker.close()


def test_the_timeout_of_replies() -> None:
    assert backend_of("redis://").options.timeout == 120
    assert backend_of("redis://", redis_socket_timeout=3).options.timeout == 3
    assert backend_of("redis://?socket_timeout=4", redis_socket_timeout=3).options.timeout == 4
    for url in ("redis://?socket_timeout=soon", "redis://?health_check_interval=soon"):
        with pytest.raises(ConfigurationError, match="not a number"):
            backend_of(url)


class Login:
    """As redis-py's CredentialProvider."""

    def get_credentials(self) -> tuple[str, str]:
        return ("somebody", "wrong")


@pytest.mark.parametrize("provider", [Login, Login(), f"{__name__}.Login", f"{__name__}:Login"])
def test_a_credential_provider_logs_in(redis_url: str, provider: Any) -> None:
    backend = backend_of(redis_url, redis_backend_credential_provider=provider)
    with pytest.raises(BrokerError, match="WRONGPASS"):
        backend.get(["any"])
    backend.close()


# -- SQL -------------------------------------------------------------------------------------------


def note_engine(engine: Any) -> None:
    ENGINES.append(engine)


@pytest.mark.parametrize("callback", [note_engine, f"{__name__}.note_engine"])
def test_engine_options_and_callback(tmp_path: Path, callback: Any) -> None:
    ENGINES.clear()
    backend = backend_of(
        f"sqlite:///{tmp_path}/r.db",
        database_engine_options={"pool_size": 2, "pool_pre_ping": True},
        database_engine_callback=callback,
    )
    assert isinstance(backend, SQLBackend)
    assert keep(backend, "1") == "1"
    assert [backend.database.engine] == ENGINES
    assert backend.database.engine.pool.size() == 2  # pyright: ignore
    backend.close()


def test_connections_need_not_be_pooled(tmp_path: Path) -> None:
    options = {"poolclass": sqlalchemy.pool.NullPool}
    backend = backend_of(f"sqlite:///{tmp_path}/r.db", database_engine_options=options)
    assert keep(backend, "1") == "1"
    backend.close()


@pytest.mark.parametrize(
    ("settings", "text"),
    [
        ({"database_engine_options": {"pool_sice": 2}}, "pool_sice"),
        ({"database_engine_callback": "nowhere.at_all"}, "nowhere"),
        ({"database_engine_callback": "os.sep"}, "must be a function"),
    ],
)
def test_wrong_settings_of_engines(tmp_path: Path, settings: dict[str, Any], text: str) -> None:
    with pytest.raises(ConfigurationError, match=text):
        backend_of(f"sqlite:///{tmp_path}/r.db", **settings).get(["1"])


@pytest.mark.parametrize("system", ["postgresql", "mariadb"])
def test_tables_have_the_names_and_schemas_of_settings(system: str, fresh_url: Callable[[str], str]) -> None:
    url = fresh_url(system)
    other = "of Umbel" if system == "postgresql" else urlsplit(fresh_url(system)).path[1:]
    engine = sqlalchemy.create_engine(
        url.replace("mariadb:", "mysql+pymysql:").replace("postgresql:", "postgresql+psycopg:")
    )
    if system == "postgresql":
        with engine.begin() as connection:
            connection.execute(sqlalchemy.text('CREATE SCHEMA "of Umbel"'))
    backend = backend_of(
        url,
        database_table_names={"task": "My Results", "group": "my_groups"},
        database_table_schemas={"task": other, "group": other},
    )
    assert keep(backend, "1") == "1"
    backend.save_group("g", ["1"])
    again = backend_of(
        url,
        database_table_names={"task": "My Results", "group": "my_groups"},
        database_table_schemas={"task": other, "group": other},
    )
    assert again.get(["1"])["1"].result == "1"
    assert again.restore_group("g") == ["1"]
    inspector = sqlalchemy.inspect(engine)
    assert {"My Results", "my_groups"} <= set(inspector.get_table_names(schema=other))
    assert "celery_taskmeta" not in inspector.get_table_names()
    for each in (backend, again):
        each.forget(["1"])
        each.close()
    engine.dispose()


@pytest.mark.parametrize("at_setup", [True, False])
def test_a_worker_creates_the_tables_at_its_start(tmp_path: Path, at_setup: bool) -> None:
    path = tmp_path / "r.db"
    app = Umbel(
        "settings",
        set_as_current=False,
        broker_url="memory://tables",
        result_backend=f"sqlite:///{path}",
        database_create_tables_at_setup=at_setup,
    )
    with start_worker(app, perform_ping_check=False):
        engine = sqlalchemy.create_engine(f"sqlite:///{path}")
        found = sqlalchemy.inspect(engine).get_table_names()
        engine.dispose()
    assert ("celery_taskmeta" in found) is at_setup
    app.close()


def test_a_worker_says_that_it_may_not_create_tables(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    result_backend = f"sqlite:///{tmp_path}/none/r.db"
    app = Umbel("settings", set_as_current=False, broker_url="memory://tables", result_backend=result_backend)
    with start_worker(app, perform_ping_check=False):
        pass
    assert "the result store is not ready" in caplog.text
    app.close()
