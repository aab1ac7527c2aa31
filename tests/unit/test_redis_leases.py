"""What the Redis broker does when something dies: reaping, late landings, lost answers, forgotten scripts."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import redis

from conformance.waiting import assert_prompt
from umbel.backends.base import Meta
from umbel.backends.redis import RedisBackend
from umbel.brokers.base import Action, Consumer, Options, Settlement
from umbel.brokers.redis import RedisBroker
from umbel.brokers.redis.consumer import RedisConsumer
from umbel.brokers.redis.link import Script
from umbel.brokers.redis.publisher import Publisher
from umbel.brokers.redis.scripts import PUBLISH, PUSH
from umbel.message import Headers, Message, encode_headers, format_moment, new_id
from umbel.queues import Queue
from workers import wait_for

QUEUE = Queue("work")


def message(id: str, **fields: Any) -> Message:
    eta = fields.get("eta")
    headers = encode_headers(Headers(task="tasks.add", id=id, eta=format_moment(eta) if eta else None))
    return Message(id=id, task="tasks.add", queue="work", headers=headers, body=b"[[],{},{}]", **fields)


def ids(taken: list[Any]) -> list[str]:
    return [delivery.message.id for delivery in taken]


def connections(client: Any, command: str = "") -> int:
    """How many connections this test's database has, or those whose last command was this."""
    database = str(client.connection_pool.connection_kwargs["db"])
    found = [one for one in client.client_list() if one["db"] == database]
    return len([one for one in found if not command or one["cmd"] == command])


@pytest.fixture
def url(fresh_url: Callable[[str], str]) -> str:
    """On a server that is past the first lease of its life, in which nobody is reaped."""
    found = fresh_url("redis")
    with redis.Redis.from_url(found) as connection:
        wait_for(lambda: connection.info("server")["uptime_in_seconds"] >= 2)
    return found


@pytest.fixture
def client(url: str) -> Iterator[Any]:
    with redis.Redis.from_url(url) as connection:
        yield connection


@pytest.fixture
def broker(url: str) -> Iterator[RedisBroker]:
    broker = RedisBroker(url, Options(delivery_limit=2))
    yield broker
    broker.close()


@pytest.fixture
def consume(broker: RedisBroker) -> Iterator[Callable[..., Consumer]]:
    opened: list[Consumer] = []

    def make(lease: float = 60.0) -> Consumer:
        opened.append(broker.consumer([QUEUE], name="w", lease=lease))
        return opened[-1]

    yield make
    for consumer in opened:
        consumer.close()


def expire(client: Any, consumer: Consumer) -> None:
    """Let the lease of ``consumer`` have ended."""
    assert isinstance(consumer, RedisConsumer)
    client.zadd("umbel.consumers", {consumer.id: time.time() - 1})


def test_reaped_work_comes_back_in_order_and_counted(
    broker: RedisBroker, consume: Callable[..., Consumer], client: Any
) -> None:
    broker.publish([message(str(number)) for number in range(5)])
    dead, living = consume(lease=1.0), consume()
    dead.receive(3, 1.0)
    expire(client, dead)
    assert living.renew()
    taken = living.receive(10, 1.0)
    assert ids(taken) == ["0", "1", "2", "3", "4"]
    assert [delivery.deliveries for delivery in taken] == [1, 1, 1, 0, 0]
    assert [delivery.message.redelivered for delivery in taken] == [True, True, True, False, False]
    assert living.settle([Settlement(delivery) for delivery in taken]).stale == []


def test_beyond_the_limit_the_reaper_dead_letters(
    broker: RedisBroker, consume: Callable[..., Consumer], client: Any
) -> None:
    broker.publish([message("poison")])
    living = consume()
    for _ in range(3):
        dead = consume(lease=1.0)
        assert ids(dead.receive(1, 1.0)) == ["poison"]
        expire(client, dead)
        living.renew()
    (letter,) = broker.dead_letters("work")
    assert letter.message.id == "poison"
    assert letter.deliveries == 3
    assert "delivered 3 times" in letter.reason
    assert broker.size("work").ready == 0
    assert broker.replay("work") == 1
    assert living.receive(1, 1.0)[0].deliveries == 0


def test_nobody_is_reaped_before_the_server_is_up_for_a_lease(
    broker: RedisBroker, consume: Callable[..., Consumer], client: Any
) -> None:
    broker.publish([message("long")])
    late, living = consume(lease=10_000_000.0), consume()
    late.receive(1, 1.0)
    expire(client, late)
    living.renew()
    assert broker.size("work").held == 1
    assert late.renew()


def test_what_lands_after_the_reaping_is_returned(
    broker: RedisBroker, consume: Callable[..., Consumer], client: Any
) -> None:
    dead, living = consume(lease=1.0), consume()
    assert isinstance(dead, RedisConsumer)
    expire(client, dead)
    living.renew()
    broker.publish([message("late")])
    client.lmove("work", f"umbel.landing.{dead.id}.0", "RIGHT", "LEFT")
    living.renew()
    assert ids(living.receive(1, 1.0)) == ["late"]


def test_a_message_wakes_exactly_one(broker: RedisBroker, consume: Callable[..., Consumer], client: Any) -> None:
    consumers = [consume() for _ in range(5)]
    taken: list[tuple[int, list[str]]] = []

    def receive(number: int) -> None:
        taken.append((number, ids(consumers[number].receive(5, 1.5))))

    threads = [threading.Thread(target=receive, args=(number,)) for number in range(5)]
    for thread in threads:
        thread.start()
    wait_for(lambda: connections(client, "blmove") == 5)
    broker.publish([message("one", priority=6)])
    for thread in threads:
        thread.join()
    assert sorted(found for _, found in taken) == [[], [], [], [], ["one"]]


def test_nothing_lands_at_who_does_not_receive(
    broker: RedisBroker, consume: Callable[..., Consumer], client: Any
) -> None:
    idle, other = consume(), consume()
    assert idle.receive(5, 0.2) == []
    broker.publish([message("x")])
    assert ids(other.receive(5, 1.0)) == ["x"]
    assert client.keys("umbel.landing.*") == []


def test_an_earlier_delay_wakes_the_idle(broker: RedisBroker, consume: Callable[..., Consumer]) -> None:
    consumer = consume()
    broker.publish([message("later", eta=time.time() + 60)])

    def once() -> float:
        timer = threading.Timer(0.3, lambda: broker.publish([message("soon", eta=time.time() + 0.3)]))
        timer.start()
        taken = consumer.receive(1, 5.0)
        came = time.time()
        assert ids(taken) == ["soon"]
        eta = taken[0].message.eta
        timer.join()
        assert eta is not None and came - eta > -0.05
        consumer.settle([Settlement(taken[0])])
        return came - eta

    assert_prompt(0.2, once)


def test_scripts_are_loaded_again(broker: RedisBroker, consume: Callable[..., Consumer], client: Any) -> None:
    consumer = consume()
    client.script_flush()
    broker.publish([message("a"), message("b", priority=9)])
    client.script_flush()
    taken = consumer.receive(5, 1.0)
    assert ids(taken) == ["b", "a"]
    client.script_flush()
    assert consumer.settle([Settlement(delivery) for delivery in taken]).stale == []
    client.script_flush()
    assert consumer.renew()


def test_a_publication_repeated_is_not_sent_twice(broker: RedisBroker, client: Any) -> None:
    publisher = Publisher("umbel.publisher.test")
    ran = [broker.links.run(PUSH, (publisher.key, number, 1, "work", b"x")) for number in (1, 1, 2, 1, 2)]
    assert ran == [1, 0, 1, 0, 0]
    assert client.llen("work") == 2


def test_no_call_of_a_publication_is_run_before_the_one_that_precedes_it(broker: RedisBroker, client: Any) -> None:
    calls = [(3, 2), (2, 2), (4, 2), (3, 2), (3, 2), (4, 2), (7, 7)]
    ran = [broker.links.run(PUSH, ("umbel.publisher.test", *numbers, "work", b"x")) for numbers in calls]
    assert ran == [2, 1, 2, 1, 0, 1, 1]
    assert client.llen("work") == 4


@pytest.mark.parametrize("known", [PUSH, PUBLISH])
def test_a_publication_is_whole_when_the_server_knows_one_script_of_two(
    broker: RedisBroker, client: Any, known: Script
) -> None:
    client.script_flush()
    client.script_load(known.text)
    soon = time.time() + 60
    broker.publish([message("later", eta=soon), message("plain"), message("urgent", priority=9)])
    broker.publish([message("plain too")])
    assert sorted(found.id for found in broker.peek("work")) == ["plain", "plain too", "urgent"]
    assert broker.size("work").delayed == 1


def test_settlement_with_result_and_counted_delivery(
    broker: RedisBroker, consume: Callable[..., Consumer], url: str, client: Any
) -> None:
    backend = RedisBackend(url)
    assert broker.stores_results_of(backend)
    broker.publish([message("t")])
    consumer = consume()
    (delivery,) = consumer.receive(1, 1.0)
    consumer.settle([Settlement(delivery, Action.REQUEUE, count=True)])
    (again,) = consumer.receive(1, 1.0)
    assert again.deliveries == 1
    result = backend.encode(Meta(task_id="t", status="FAILURE", result={"exc_type": "E"}))
    assert consumer.settle([Settlement(again, result=result)]).stale == []
    assert backend.get(["t"])["t"].status == "FAILURE"
    backend.close()


def test_compressed_results_are_left_to_the_backend(broker: RedisBroker, url: str) -> None:
    from umbel.backends.base import Options as BackendOptions

    server, _, database = url.rpartition("/")
    assert not broker.stores_results_of(RedisBackend(url, BackendOptions(compression="gzip")))
    assert not broker.stores_results_of(RedisBackend(f"{server}/{(int(database) + 1) % 16}"))


def test_waits_use_one_connection_again_and_leave_no_subscription(url: str, client: Any) -> None:
    backend = RedisBackend(url)
    name = new_id()
    backend.store([backend.encode(Meta(task_id="t", status="SUCCESS", result=1))])
    before = connections(client)
    for _ in range(20):
        assert backend.wait(["t"], 5.0, lambda _: None)
        assert not backend.wait([name], 0.01, lambda _: None)
    assert connections(client) == before + 1
    assert wait_for(lambda: client.pubsub_channels(f"*{name}") == [])
    backend.close()
    assert wait_for(lambda: connections(client) == 1)


def test_nothing_stays_behind(url: str, client: Any) -> None:
    broker = RedisBroker(url)
    broker.publish([message("a"), message("b", eta=time.time() + 100)])
    with broker.consumer([QUEUE], name="w") as consumer:
        taken = consumer.receive(1, 1.0)
        consumer.settle([Settlement(delivery, Action.DEAD_LETTER, reason="x") for delivery in taken])
        assert consumer.receive(1, 0.1) == []
    broker.delete("work")
    broker.close()
    assert client.keys("*") == []
    assert wait_for(lambda: connections(client) == 1)
