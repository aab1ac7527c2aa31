"""The servers of the tests themselves: isolated places, private servers that keep their data, nothing left behind."""

import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from urllib.parse import urlsplit

import pika
import psycopg
import pymysql
import pytest
import redis
from services_lib import memory

import services
from services import PrivateServer

PROJECT = Path(__file__).resolve().parents[2]

Urls = Callable[[str], str]
Servers = Callable[[str], PrivateServer]


def command(*arguments: str, **variables: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, str(PROJECT / "scripts" / "services"), *arguments],
        env={**os.environ, **variables},
        capture_output=True,
        text=True,
        timeout=200,
    )


@pytest.mark.parametrize("name", ["redis", "redis-durable"])
def test_each_redis_url_is_a_database_of_its_own(fresh_url: Urls, name: str) -> None:
    first, second = (redis.Redis.from_url(fresh_url(name)) for _ in range(2))
    with first, second:
        first.set("key", "value")
        assert second.keys() == []


def test_each_postgresql_url_is_a_database_of_its_own(fresh_url: Urls) -> None:
    with psycopg.connect(fresh_url("postgresql")) as first, psycopg.connect(fresh_url("postgresql")) as second:
        first.execute("CREATE TABLE t (a int)")
        first.commit()
        assert second.execute("SELECT to_regclass('t')").fetchone() == (None,)


def test_each_mariadb_url_is_a_database_of_its_own(fresh_url: Urls) -> None:
    def tables(url: str, statement: str) -> int:
        parts = urlsplit(url)
        connection = pymysql.connect(
            host=parts.hostname, port=parts.port or 0, user=parts.username, database=parts.path[1:]
        )
        with connection, connection.cursor() as cursor:
            cursor.execute(statement)
            return cursor.execute("SHOW TABLES")

    assert tables(fresh_url("mariadb"), "CREATE TABLE t (a int)") == 1
    assert tables(fresh_url("mariadb"), "SELECT 1") == 0


def test_each_rabbitmq_url_is_a_virtual_host_of_its_own(fresh_url: Urls) -> None:
    urls = [fresh_url("rabbitmq"), fresh_url("rabbitmq")]
    first, second = (pika.BlockingConnection(pika.URLParameters(url)) for url in urls)
    with first, second:
        first.channel().queue_declare("q", durable=True, arguments={"x-queue-type": "quorum"})
        with pytest.raises(pika.exceptions.ChannelClosedByBroker, match="no queue"):
            second.channel().queue_declare("q", passive=True)


def test_a_private_redis_keeps_port_and_data_when_killed(private_server: Servers) -> None:
    server = private_server("redis-durable")
    with redis.Redis.from_url(server.url) as client:
        client.set("key", "value")
        server.kill()
        assert not server.running
        with pytest.raises(redis.ConnectionError):
            client.get("key")
        server.start()
        assert client.get("key") == b"value"
        server.stop()
        server.start()
        assert client.get("key") == b"value"


def test_a_private_redis_can_be_frozen(private_server: Servers) -> None:
    server = private_server("redis")
    with redis.Redis.from_url(server.url, socket_timeout=0.2) as client:
        server.pause()
        with pytest.raises(redis.TimeoutError):
            client.ping()
        server.resume()
        assert client.ping()


def test_a_private_postgresql_keeps_its_data_when_killed(private_server: Servers) -> None:
    server = private_server("postgresql")
    with psycopg.connect(server.url) as connection:
        connection.execute("CREATE TABLE t AS SELECT 1 AS a")
        connection.commit()
        server.kill()
        with pytest.raises(psycopg.OperationalError):
            connection.execute("SELECT a FROM t")
    server.start()
    with psycopg.connect(server.url) as connection:
        assert connection.execute("SELECT a FROM t").fetchone() == (1,)


@pytest.mark.slow
def test_a_private_rabbitmq_keeps_confirmed_messages_when_killed(private_server: Servers) -> None:
    server = private_server("rabbitmq")
    parameters = pika.URLParameters(server.url.removesuffix("//") + "/%2F")
    with pika.BlockingConnection(parameters) as connection:
        channel = connection.channel()
        channel.queue_declare("q", durable=True)
        channel.confirm_delivery()
        channel.basic_publish("", "q", b"body", pika.BasicProperties(delivery_mode=2))
        server.kill()
        with pytest.raises(pika.exceptions.AMQPConnectionError):
            channel.basic_get("q")
    server.start()
    with pika.BlockingConnection(parameters) as connection:
        assert connection.channel().basic_get("q")[2] == b"body"


def test_starting_twice_gives_the_same_server(redis_url: str) -> None:
    before = command("env").stdout
    for _ in range(2):
        started = command("start", "--for-pid", os.environ[services.HOLDER], "redis")
        assert started.returncode == 0
    assert command("env").stdout == before
    assert f"UMBEL_TEST_REDIS_URL=redis://127.0.0.1:{urlsplit(redis_url).port}/0" in before


def test_a_server_lives_as_long_as_its_holder(private_server: Servers) -> None:
    holder = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    key = f"redis~{holder.pid}"
    script = (
        "import sys; sys.path.insert(0, sys.argv[1])\n"
        "from services_lib.processes import Process\n"
        "from services_lib.registry import Registry\n"
        "record = Registry().start_private('redis', sys.argv[2], Process.of(int(sys.argv[3])))\n"
        "print(record.instance.server.url, record.instance.server.home)\n"
    )
    arguments = [sys.executable, "-c", script, str(PROJECT / "scripts"), key, str(holder.pid)]
    url, home = subprocess.run(arguments, capture_output=True, text=True, check=True).stdout.split()
    assert Path(home).is_dir()
    with redis.Redis.from_url(url) as client:
        assert client.ping()
        assert "stopped" not in command("release", "--for-pid", "1").stdout
        assert client.ping()
        holder.communicate(b"\n")
        assert f"{key}: stopped" in command("release", "--for-pid", "1").stdout
        with pytest.raises(redis.ConnectionError):
            client.ping()
    assert not Path(home).exists()


@pytest.fixture
def holder() -> Iterator[subprocess.Popen[bytes]]:
    """A process that ends when it is written to."""
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as process:
        yield process
        process.kill()


@pytest.mark.skipif(not memory.has_room(), reason="no room in memory here")
def test_data_in_memory_is_gone_with_its_holder(holder: subprocess.Popen[bytes]) -> None:
    directory = Path(command("memory", "--for-pid", str(holder.pid)).stdout.strip())
    assert directory.is_dir() and memory.MEMORY in directory.parents
    (directory / "tests").mkdir()
    command("release", "--for-pid", str(os.getpid()))
    assert (directory / "tests").is_dir(), "its holder lives"
    holder.communicate(b"\n")
    command("release", "--for-pid", str(os.getpid()))
    assert not directory.exists()


def test_what_others_have_in_memory_stays(tmp_path: Path, holder: subprocess.Popen[bytes]) -> None:
    for name in ("umbel-strange", "umbel-1", "other"):
        (tmp_path / name).mkdir()
    (tmp_path / "umbel-strange" / "holder").write_text("?")
    (tmp_path / "umbel-2").mkdir()
    (tmp_path / "umbel-2" / "holder").write_text("an earlier process with that pid")
    memory.sweep(tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["other", "umbel-1", "umbel-strange"]


@pytest.mark.parametrize("name", ["redis-durable", "postgresql", "mariadb"])
def test_servers_have_their_data_where_they_are_told(
    name: str, monkeypatch: pytest.MonkeyPatch, private_server: Servers
) -> None:
    with tempfile.TemporaryDirectory() as directory:
        Path(directory).chmod(0o755)
        data = Path(directory) / "data"
        monkeypatch.setenv("UMBEL_TEST_DATA", str(data))
        server = private_server(name)
        monkeypatch.undo()
        assert server.home.parent == data
        server.kill()
        server.start()
        assert server.running
        server.discard()
        assert list(data.iterdir()) == []


def test_postgresql_is_not_put_where_its_user_cannot_go(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, private_server: Servers
) -> None:
    tmp_path.chmod(0o700)
    monkeypatch.setenv("UMBEL_TEST_DATA", str(tmp_path / "data"))
    server = private_server("postgresql")
    assert (server.home.parent == tmp_path / "data") == (os.geteuid() != 0)
    server.discard()
    assert not server.home.exists()


def test_a_given_server_is_used_and_left_alone() -> None:
    url = "redis://example.invalid:1/0"
    assert url in command("start", "redis", UMBEL_TEST_REDIS_URL=url).stdout
    assert f"UMBEL_TEST_REDIS_URL={url}\n" in command("env", UMBEL_TEST_REDIS_URL=url).stdout
    refused = command("restart", "redis", UMBEL_TEST_REDIS_URL=url)
    assert refused.returncode == 1
    assert "by its own means" in refused.stderr


def test_an_unknown_service_is_an_error_that_names_the_known_ones() -> None:
    refused = command("start", "oracle")
    assert refused.returncode == 1
    assert "'oracle'" in refused.stderr
    assert "postgresql" in refused.stderr


@pytest.mark.parametrize(("required", "outcome"), [("", "1 skipped"), ("1", "1 error")])
def test_a_missing_server_skips_or_fails(tmp_path: Path, required: str, outcome: str) -> None:
    """A test on a machine without Redis, and in a checkout where none runs, names the command that gets them."""
    test = PROJECT / "tests" / "e2e" / "test_services.py"
    program = (
        "import sys, pytest; from pathlib import Path; sys.path.insert(0, sys.argv[1])\n"
        "import services_lib.redis as r; r.Redis.programs = r.DurableRedis.programs = ('no-such-redis',)\n"
        "from services_lib.registry import Registry; Registry.__init__.__defaults__ = (Path(sys.argv[3]),)\n"
        "sys.exit(pytest.main(['-q', '-p', 'no:cacheprovider', sys.argv[2] + '::test_needs_redis_durable']))\n"
    )
    run = subprocess.run(
        [sys.executable, "-c", program, str(PROJECT / "scripts"), str(test), str(tmp_path)],
        cwd=PROJECT,
        env={**os.environ, "UMBEL_REQUIRE_SERVICES": required, "UMBEL_TEST_REDIS_DURABLE_URL": ""},
        capture_output=True,
        text=True,
    )
    assert outcome in run.stdout, run.stdout + run.stderr
    assert "scripts/services install redis" in run.stdout


def test_needs_redis_durable(redis_durable_url: str) -> None:
    with redis.Redis.from_url(redis_durable_url) as client:
        assert client.config_get("appendonly") == {"appendonly": "yes"}
