"""Redis as Celery sees it: lists, bindings and envelopes by golden vectors, prefixes, result keys, URLs."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import redis

from umbel.backends.base import Meta
from umbel.backends.base import Options as BackendOptions
from umbel.backends.redis import RedisBackend
from umbel.backends.redis_results import prefix_of
from umbel.brokers.base import Action, Options, Settlement
from umbel.brokers.redis import RedisBroker
from umbel.brokers.redis.server import server_of
from umbel.errors import ConfigurationError
from umbel.message import Headers, Message, encode_headers
from umbel.queues import Exchange, Queue
from workers import wait_for

VECTORS: dict[str, dict[str, list[str]]] = json.loads(Path(__file__).with_name("test_redis_vectors.json").read_text())
"""What Celery 5.7 wrote: scenario → key → elements."""

BODY = b'[[],{},{"callbacks":null,"errbacks":null,"chain":null,"chord":null}]'


def message(queue: str, id: str = "id-1", **fields: Any) -> Message:
    headers = encode_headers(Headers(task="wire.echo", id=id))
    return Message(id=id, task="wire.echo", queue=queue, headers=headers, body=BODY, **fields)


@pytest.fixture
def url(fresh_url: Callable[[str], str]) -> str:
    return fresh_url("redis")


@pytest.fixture
def client(url: str) -> Iterator[Any]:
    with redis.Redis.from_url(url) as connection:
        yield connection


@pytest.fixture
def open_broker(url: str) -> Iterator[Callable[..., RedisBroker]]:
    opened: list[RedisBroker] = []

    def make(**options: Any) -> RedisBroker:
        opened.append(RedisBroker(url, Options(**options)))
        return opened[-1]

    yield make
    for broker in opened:
        broker.close()


def lists_of(client: Any) -> dict[str, int]:
    return {key.decode(): client.llen(key) for key in client.keys("*") if client.type(key) == b"list"}


@pytest.mark.parametrize("priority", [0, 1, 3, 5, 6, 9])
def test_messages_lie_where_celery_puts_them(
    open_broker: Callable[..., RedisBroker], client: Any, priority: int
) -> None:
    vector = VECTORS[f"priority_{priority}"]
    (key, elements) = next((key, value) for key, value in vector.items() if not key.startswith("_kombu"))
    open_broker().publish([message("celery", priority=priority)])
    assert lists_of(client) == {key: 1}
    ours, theirs = json.loads(client.lindex(key, 0)), json.loads(elements[0])
    assert ours.keys() == theirs.keys()
    assert ours["properties"].keys() - {"expiration"} == theirs["properties"].keys()
    assert ours["properties"]["priority"] == theirs["properties"]["priority"]
    assert ours["properties"]["delivery_info"] == theirs["properties"]["delivery_info"]


@pytest.mark.parametrize(("scenario", "queue"), [("priority_0", "celery"), ("other_queue", "other")])
def test_bindings_are_celerys(open_broker: Callable[..., RedisBroker], client: Any, scenario: str, queue: str) -> None:
    open_broker().publish([message(queue)])
    for kind in ("binding", "binding_permanent"):
        key = f"_kombu.{kind}.{queue}"
        assert {member.decode() for member in client.smembers(key)} == set(VECTORS[scenario][key])


@pytest.mark.parametrize("scenario", list(VECTORS))
def test_celerys_messages_are_delivered(open_broker: Callable[..., RedisBroker], client: Any, scenario: str) -> None:
    lists = {key: value for key, value in VECTORS[scenario].items() if not key.startswith("_kombu")}
    for key, elements in lists.items():
        client.lpush(key, *elements)
    queue = min(lists).partition("\x06")[0]
    with open_broker().consumer([Queue(queue)], name="w") as consumer:
        taken = consumer.receive(10, 1.0)
        wanted = [json.loads(element) for elements in lists.values() for element in elements]
        assert {delivery.message.id for delivery in taken} == {envelope["headers"]["id"] for envelope in wanted}
        assert not any(delivery.fault for delivery in taken)
        assert consumer.settle([Settlement(delivery) for delivery in taken]).stale == []
    assert lists_of(client) == {}


def test_claim_order_and_celerys(open_broker: Callable[..., RedisBroker]) -> None:
    for lowest_first, order in ((False, [9, 6, 3, 0]), (True, [0, 3, 6, 9])):
        broker = open_broker(lowest_priority_first=lowest_first)
        broker.publish([message("order", str(priority), priority=priority) for priority in (3, 9, 0, 6)])
        with broker.consumer([Queue("order")], name="w") as consumer:
            taken = consumer.receive(10, 1.0)
            assert [delivery.message.priority for delivery in taken] == order
            consumer.settle([Settlement(delivery) for delivery in taken])


def test_low_priorities_are_not_starved(open_broker: Callable[..., RedisBroker]) -> None:
    broker = open_broker()
    broker.publish([message("busy", "low"), *[message("busy", str(n), priority=9) for n in range(100)]])
    with broker.consumer([Queue("busy")], name="w") as consumer:
        order = [consumer.receive(1, 1.0)[0].message.id for _ in range(40)]
    assert "low" in order


def test_queues_are_served_in_turn(open_broker: Callable[..., RedisBroker]) -> None:
    broker = open_broker()
    broker.publish([message("one", f"one-{n}") for n in range(100)])
    broker.publish([message("two", f"two-{n}") for n in range(100)])
    with broker.consumer([Queue("one"), Queue("two")], name="w") as consumer:
        taken = [delivery.queue for _ in range(10) for delivery in consumer.receive(5, 1.0)]
    assert taken.count("one") == taken.count("two") == 25


def test_prefix_stands_before_every_key(open_broker: Callable[..., RedisBroker], client: Any) -> None:
    broker = open_broker(key_prefix="app.")
    broker.publish([message("celery"), message("celery", eta=time.time() + 60)])
    with broker.consumer([Queue("celery")], name="w") as consumer:
        assert len(consumer.receive(1, 1.0)) == 1
        assert [key for key in client.keys("*") if not key.startswith(b"app.")] == []


def test_mixed_fleet_sends_delayed_messages_to_the_queue(open_broker: Callable[..., RedisBroker], client: Any) -> None:
    open_broker(mixed_fleet=True).publish([message("celery", eta=time.time() + 60)])
    assert lists_of(client) == {"celery": 1}


def test_topic_binding_of_celery_routes(open_broker: Callable[..., RedisBroker], client: Any) -> None:
    broker = open_broker()
    client.sadd("_kombu.binding.logs", "app.*\x06\x16^app\\..*?[^\\.]$\x06\x16app-logs")
    broker.publish([message("", exchange="logs", routing_key="app.web")])
    assert lists_of(client) == {"app-logs": 1}


def test_reply_to_a_celery_client_is_routed(open_broker: Callable[..., RedisBroker], client: Any) -> None:
    client.sadd("_kombu.binding.reply.celery.pidbox", "oid\x06\x16\x06\x16oid.reply.celery.pidbox")
    open_broker().publish([message("", exchange="reply.celery.pidbox", routing_key="oid")])
    assert lists_of(client) == {"oid.reply.celery.pidbox": 1}


def test_fanout_reaches_celerys_channel(open_broker: Callable[..., RedisBroker], client: Any, url: str) -> None:
    broker = open_broker()
    queue = Queue("bcast.1", exchange=Exchange("news", "fanout"), routing_key="news")
    broker.declare(queue)
    database = url.rpartition("/")[2]
    with client.pubsub() as listening:
        listening.psubscribe(f"/{database}.news/*")
        assert listening.get_message(timeout=5.0)["type"] == "psubscribe"
        broker.publish([message("", exchange="news", routing_key="news")])
        assert listening.get_message(timeout=5.0)["channel"] == f"/{database}.news/news".encode()
    assert broker.size("bcast.1").ready == 1


@pytest.mark.parametrize(
    ("prefix", "wanted"), [("", ""), ("pre", "pre_"), ("pre:", "pre:"), ("a.", "a."), ("b-", "b-")]
)
def test_result_prefix(prefix: str, wanted: str) -> None:
    assert prefix_of(prefix) == wanted


def test_results_lie_where_celery_looks(url: str, client: Any) -> None:
    backend = RedisBackend(url, BackendOptions(key_prefix="pre", expires=100.0))
    backend.store([backend.encode(Meta(task_id="t1", status="SUCCESS", result=5, children=[]))])
    document = json.loads(client.get("pre_celery-task-meta-t1"))
    assert list(document) == ["status", "result", "traceback", "children", "date_done", "task_id"]
    assert 95 <= client.ttl("pre_celery-task-meta-t1") <= 100
    backend.close()


@pytest.mark.parametrize("serializer", ["json", "pickle", "yaml", "msgpack"])
@pytest.mark.parametrize("compression", [None, "gzip"])
def test_success_stays_in_every_format(url: str, serializer: str, compression: str | None) -> None:
    accept = frozenset({"application/json", "application/x-python-serialize", "application/x-yaml"})
    options = BackendOptions(serializer=serializer, compression=compression, accept=accept | {"application/x-msgpack"})
    backend = RedisBackend(url, options)
    seen: list[str] = []
    for status in ("STARTED", "RETRY", "SUCCESS", "FAILURE", "STARTED"):
        backend.store([backend.encode(Meta(task_id="t", status=status, result="SUCCESS", traceback="x"))])
        seen.append(backend.get(["t"])["t"].status)
    assert seen == ["STARTED", "RETRY", "SUCCESS", "SUCCESS", "SUCCESS"]
    backend.close()


@pytest.mark.parametrize(
    ("url_text", "wanted"),
    [
        ("redis://", ("localhost", 6379, "", 0, "", "")),
        ("redis://:p%40ss@host:7000/3", ("host", 7000, "", 3, "", "p@ss")),
        ("redis://me:secret@host/1", ("host", 6379, "", 1, "me", "secret")),
        ("redis+socket:///run/redis.sock?virtual_host=2", ("localhost", 6379, "/run/redis.sock", 2, "", "")),
        ("redis+socket://:pw@/run/redis.sock", ("localhost", 6379, "/run/redis.sock", 0, "", "pw")),
    ],
)
def test_urls(url_text: str, wanted: tuple[Any, ...]) -> None:
    found = server_of(url_text)
    assert (found.host, found.port, found.path, found.db, found.username, found.password) == wanted
    assert found.tls is None


def test_tls_options_come_from_url_and_application() -> None:
    found = server_of("rediss://host?ssl_cert_reqs=CERT_NONE", ssl={"ssl_ca_certs": "ca.pem"})
    assert found.tls == {"cert_reqs": "CERT_NONE", "ca_certs": "ca.pem"}
    with pytest.raises(ConfigurationError, match="cert_file"):
        server_of("rediss://host?ssl_cert_file=x")


def test_database_must_be_a_number() -> None:
    with pytest.raises(ConfigurationError, match="not a number"):
        server_of("redis://host/tasks")


def test_what_a_celery_worker_holds_is_located(client: Any, open_broker: Callable[..., RedisBroker]) -> None:
    """Celery's workers note a message with its exchange and routing key, as Python's ``json`` writes it."""
    broker = open_broker()
    broker.publish([message("celery", "id-held"), message("celery", "id-other")])
    envelope = json.loads(client.rpop("celery"))
    client.hset("unacked", "some-tag", json.dumps([envelope, "celery", "celery"]))
    assert (broker.locate("id-held"), broker.locate("id-other"), broker.locate("id-none")) == ("held", "ready", None)


def test_what_was_put_back_returns_to_the_front_in_order(client: Any, open_broker: Callable[..., RedisBroker]) -> None:
    broker = open_broker()
    with broker.consumer([Queue("q")], name="w") as consumer:
        broker.publish([message("q", "first"), message("q", "second")])
        taken = consumer.receive(2, 5.0)
        delays = {"first": 0.2, "second": 0.3}
        consumer.settle([Settlement(each, Action.REQUEUE, delay=delays[each.message.id]) for each in taken])
        broker.publish([message("q", "new"), message("q", "newer"), message("q", "late", eta=time.time() + 0.25)])
        ((_, last),) = client.zrange(broker.keys.delayed("q"), -1, -1, withscores=True)
        wait_for(lambda: time.time() > last)
        assert [each.message.id for each in consumer.receive(10, 5.0)] == ["first", "second", "new", "newer", "late"]
