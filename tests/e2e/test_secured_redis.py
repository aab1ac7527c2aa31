"""Redis over TLS, as a user with few rights, by a Unix socket, in a numbered database, under a key prefix."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from urllib.parse import urlencode

import pytest
import redis

from conformance.messages import make, take
from secured import carry_message, one_line, run_tasks
from services import PrivateServer
from umbel import Umbel
from umbel.backends import open_backend
from umbel.backends.base import Backend, Meta
from umbel.backends.base import Options as BackendOptions
from umbel.brokers import open_broker
from umbel.brokers.base import Action, Broker, Note, Options, Settlement
from umbel.errors import BrokerError, ConfigurationError, OperationalError, PublishTimeout
from umbel.queues import Queue
from workers import Fleet

GUIDE = Path(__file__).parents[2] / "docs" / "how-to" / "redis.md"
PASSWORD = "s3cret-pass"


@pytest.fixture(scope="module")
def server() -> Iterator[PrivateServer]:
    """A Redis with TLS and a Unix socket."""
    started = PrivateServer.create("redis-secured")
    yield started
    started.discard()


@pytest.fixture
def admin(server: PrivateServer) -> Iterator[redis.Redis]:
    """The server as its administrator sees it; database, users and settings are as new after the test."""
    with redis.Redis(unix_socket_path=str(server.home / "server.sock"), decode_responses=True) as client:
        yield client
        client.flushall()
        client.config_set("tls-auth-clients", "yes")
        client.acl_log_reset()
        for user in set(client.acl_users()) - {"default"}:
            client.acl_deluser(user)


@pytest.fixture
def connect() -> Iterator[Callable[..., Broker]]:
    opened: list[Broker] = []

    def make(url: str, **options: object) -> Broker:
        opened.append(open_broker(url, Options(**options)))  # pyright: ignore[reportArgumentType]
        return opened[-1]

    yield make
    for broker in opened:
        broker.close()


Connect = Callable[..., Broker]


def files(server: PrivateServer, ca: str = "ca", client: str = "client") -> dict[str, str]:
    """TLS options, with the names of Celery's; ``client`` may be empty."""
    tls = server.home / "tls"
    own = {"ssl_certfile": f"{tls / client}.pem", "ssl_keyfile": f"{tls / client}.key"} if client else {}
    return {"ssl_ca_certs": f"{tls / ca}.pem", **own}


def by_tls(server: PrivateServer, user: str = "", **names: str) -> str:
    url = server.url.replace("//", f"//{user}@", 1) if user else server.url
    return f"{url}?{urlencode(files(server, **names))}"


def by_socket(server: PrivateServer, database: int = 0, user: str = "") -> str:
    place = f"{user}@{server.home}" if user else str(server.home)
    return f"redis+socket://{place}/server.sock?virtual_host={database}"


def sleeping(admin: redis.Redis) -> Callable[[], bool]:
    return lambda: any(client["cmd"] == "blmove" for client in admin.client_list())


# -- TLS -------------------------------------------------------------------------------------------


def test_tls_with_a_client_certificate(server: PrivateServer, admin: redis.Redis, connect: Connect) -> None:
    carry_message(connect(by_tls(server)), sleeping(admin))


def test_tls_by_the_options_of_the_application(server: PrivateServer, admin: redis.Redis, connect: Connect) -> None:
    carry_message(connect(server.url, ssl={**files(server), "ssl_cert_reqs": "required"}), sleeping(admin))


def test_tls_without_a_client_certificate(server: PrivateServer, admin: redis.Redis, connect: Connect) -> None:
    admin.config_set("tls-auth-clients", "no")
    carry_message(connect(by_tls(server, client="")), sleeping(admin))


@pytest.mark.parametrize("client", ["", "stranger"], ids=["none", "of another authority"])
def test_a_missing_client_certificate_is_a_clear_error(server: PrivateServer, connect: Connect, client: str) -> None:
    with pytest.raises(OperationalError) as caught:
        connect(by_tls(server, client=client)).size("q")
    one_line(caught.value, str(server.port), "certificate?")


def test_a_server_of_another_authority_is_a_clear_error(server: PrivateServer, connect: Connect) -> None:
    with pytest.raises(OperationalError) as caught:
        connect(by_tls(server, ca="other-ca")).size("q")
    one_line(caught.value, str(server.port), "certificate verify failed")


def test_sending_says_that_the_server_is_not_trusted(server: PrivateServer) -> None:
    with Umbel("sender", broker=by_tls(server, ca="other-ca"), publish_timeout=0.5) as app:
        with pytest.raises(PublishTimeout) as caught:
            app.send_task("a.task")
        one_line(caught.value, str(server.port), "certificate verify failed")


def test_an_untrusted_server_can_be_accepted_on_request(server: PrivateServer, connect: Connect) -> None:
    broker = connect(by_tls(server, ca="other-ca") + "&ssl_cert_reqs=none")
    assert broker.size("q").ready == 0


@pytest.mark.parametrize(("name", "word"), [("ssl_ca_certs", "missing.pem"), ("ssl_certfile", "missing.pem")])
def test_a_missing_file_is_named(server: PrivateServer, connect: Connect, name: str, word: str) -> None:
    options = files(server) | {name: str(server.home / "tls" / word)}
    with pytest.raises(ConfigurationError) as caught:
        connect(f"{server.url}?{urlencode(options)}").size("q")
    one_line(caught.value, word, "No such file")


# -- users -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("way", [by_tls, by_socket])
def test_a_wrong_password_is_a_clear_error(
    server: PrivateServer, admin: redis.Redis, connect: Connect, way: Callable[..., str]
) -> None:
    admin.acl_setuser("worker", enabled=True, passwords=["+right"])
    with pytest.raises(BrokerError) as caught:
        connect(way(server, user=f"worker:{PASSWORD}")).size("q")
    one_line(caught.value, "WRONGPASS")
    assert PASSWORD not in str(caught.value)


@pytest.fixture
def limited(admin: redis.Redis) -> str:
    """Name and password of a user with the rights that the guide names, for the prefix ``jobs:``."""
    (rule,) = re.findall(r"^ACL SETUSER worker (.*?)$", GUIDE.read_text().replace("\\\n", ""), re.MULTILINE)
    words = rule.replace("PASSWORD", PASSWORD).replace("PREFIX", "jobs:").split()
    admin.execute_command("ACL", "SETUSER", "worker", *words)
    return f"worker:{PASSWORD}"


def test_the_rights_of_the_guide_are_enough(
    server: PrivateServer, admin: redis.Redis, connect: Connect, limited: str
) -> None:
    broker = connect(by_tls(server, user=limited), key_prefix="jobs:")
    backend = open_backend(by_tls(server, user=limited), BackendOptions(key_prefix="jobs:"))
    carry_message(broker, sleeping(admin))
    assert broker.stores_results_of(backend)
    store_result_with_settlement(broker, backend)
    use_everything_else(broker)
    backend.close()
    broker.close()
    assert admin.acl_log() == []
    assert [key for key in admin.scan_iter() if not key.startswith("jobs:")] == []


def store_result_with_settlement(broker: Broker, backend: Backend) -> None:
    queue = Queue("with-result")
    message = make(queue.name)
    broker.publish([message])
    with broker.consumer([queue], name="storing@test") as consumer:
        (held,) = take(consumer, 1)
        result = backend.encode(Meta(task_id=message.id, status="SUCCESS", result=42))
        consumer.settle([Settlement(held, result=result)])
    found: list[Meta] = []
    assert backend.wait([message.id], 5.0, found.append)
    assert [meta.result for meta in found] == [42]
    backend.forget([message.id])


def use_everything_else(broker: Broker) -> None:
    queue = Queue("everything")
    broker.declare(queue)
    broker.publish([make(queue.name, eta=time.time() + 0.3), make(queue.name, priority=9), make(queue.name)])
    with broker.consumer([queue], name="everything@test") as consumer:
        requeued, dead, parked = take(consumer, 3)
        consumer.settle([Settlement(requeued, Action.REQUEUE, delay=60.0, count=True)])
        consumer.settle([Settlement(dead, Action.DEAD_LETTER, reason="why"), Settlement(parked, Action.PARK)])
        assert consumer.renew()
    assert len(broker.dead_letters(queue.name)) == 1
    assert broker.replay(queue.name) == 1
    assert broker.unpark(queue.name, list(broker.parked(queue.name))) == 1
    assert len(broker.peek(queue.name)) == 2
    assert broker.queues() == ["everything", "with-result"]
    assert broker.locate(requeued.message.id) == "delayed"
    assert broker.purge(queue.name) == 3
    lock = broker.lock("beat", 5.0)
    assert lock.acquire() and lock.renew()
    lock.release()
    broker.publish([make(queue.name)])
    with broker.consumer([queue], name="giving-back@test") as consumer:
        take(consumer, 1)
    assert broker.size(queue.name).ready == 1
    broker.delete(queue.name)


def test_listening_needs_all_channels(
    server: PrivateServer, admin: redis.Redis, connect: Connect, limited: str
) -> None:
    broker = connect(by_tls(server, user=limited), key_prefix="jobs:")
    with pytest.raises(BrokerError) as caught:
        broker.listen("control")
    one_line(caught.value, "NOPERM")
    admin.execute_command("ACL", "SETUSER", "worker", "allchannels")
    listener = broker.listen("control")
    broker.broadcast("control", Note(b"{}"))
    assert [note.body for note in listener.receive(5.0)] == [b"{}"]
    listener.close()


def test_what_is_outside_the_prefix_is_refused(server: PrivateServer, connect: Connect, limited: str) -> None:
    with pytest.raises(BrokerError) as caught:
        connect(by_tls(server, user=limited), key_prefix="other:").declare(Queue("q"))
    one_line(caught.value, "NOPERM")


# -- where -----------------------------------------------------------------------------------------


def test_unix_socket_database_and_prefix(server: PrivateServer, admin: redis.Redis, connect: Connect) -> None:
    broker = connect(by_socket(server, database=3), key_prefix="jobs:")
    broker.declare(Queue("kept"))
    carry_message(broker, sleeping(admin))
    assert list(admin.info("keyspace")) == ["db3"]
    with redis.Redis(unix_socket_path=str(server.home / "server.sock"), db=3, decode_responses=True) as third:
        assert [key for key in third.scan_iter() if not key.startswith("jobs:")] == []


def test_databases_are_apart(server: PrivateServer, admin: redis.Redis, connect: Connect) -> None:
    connect(by_tls(server).replace("/0?", "/5?")).declare(Queue("kept"))
    assert list(admin.info("keyspace")) == ["db5"]


def test_celerys_name_for_the_prefix(server: PrivateServer, admin: redis.Redis) -> None:
    options = {"global_keyprefix": "celery-like:"}
    url = by_tls(server)
    app = Umbel(
        "sender", broker=url, backend=url, broker_transport_options=options, result_backend_transport_options=options
    )
    with app:
        app.send_task("a.task", queue="work")
        app.backend.store([app.backend.encode(Meta(task_id="id", status="SUCCESS"))])
    assert admin.llen("celery-like:work") == 1
    assert admin.exists("celery-like:celery-task-meta-id")
    assert [key for key in admin.scan_iter() if not key.startswith("celery-like:")] == []


def test_a_missing_socket_is_a_clear_error(server: PrivateServer, connect: Connect) -> None:
    with pytest.raises(OperationalError) as caught:
        connect(f"redis+socket://{server.home}/none.sock").size("q")
    one_line(caught.value, "none.sock", "No such file")


# -- workers ---------------------------------------------------------------------------------------


@pytest.fixture(params=["tls", "socket", "limited user"])
def urls(request: pytest.FixtureRequest, server: PrivateServer, admin: redis.Redis) -> tuple[str, str]:
    if request.param == "socket":
        url = by_socket(server, database=2)
    elif request.param == "tls":
        url = by_tls(server)
    else:
        request.getfixturevalue("monkeypatch").setenv("UMBEL_KEY_PREFIX", "jobs:")
        request.getfixturevalue("monkeypatch").setenv("UMBEL_WORKER_ENABLE_REMOTE_CONTROL", "0")
        url = by_tls(server, user=request.getfixturevalue("limited"))
    return url, url


def test_a_worker_runs_tasks(workers: Fleet, tasks: ModuleType, admin: redis.Redis) -> None:
    run_tasks(workers, tasks)
    assert admin.acl_log() == []
