"""RabbitMQ: what the conformance suite does not ask: Celery's topology, refusals, alarms, flow, delays of others."""

from __future__ import annotations

import json
import secrets
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pika
import pytest

from conformance.messages import ack, make, many, numbers, persist, take, take_none
from conformance.waiting import Running, assert_prompt
from proxy import TCPProxy
from services import PrivateServer
from umbel.brokers.amqp import AMQPBroker
from umbel.brokers.amqp.addresses import addresses
from umbel.brokers.amqp.delays import delayed_key, level_arguments, split_delay
from umbel.brokers.amqp.fanout import fanout_exchange
from umbel.brokers.base import Action, Options, Settlement
from umbel.errors import BrokerError, OperationalError, PublishTimeout, UnroutableMessage
from umbel.queues import Exchange, Queue
from workers import wait_for

VECTORS = json.loads(Path(__file__).with_name("test_amqp_vectors.json").read_text())
QUORUM = {"x-queue-type": "quorum"}


@pytest.fixture
def broker(rabbitmq_url: str) -> Iterator[AMQPBroker]:
    opened = AMQPBroker(rabbitmq_url)
    yield opened
    opened.close()


@pytest.fixture
def raw(rabbitmq_url: str) -> Iterator[Any]:
    """A channel of pika's own."""
    with pika.BlockingConnection(pika.URLParameters(rabbitmq_url)) as connection:
        yield connection.channel()


@pytest.fixture(params=["classic", "quorum"])
def queue(request: pytest.FixtureRequest, broker: AMQPBroker) -> Iterator[Queue]:
    made = Queue(f"q-{secrets.token_hex(6)}", queue_arguments=QUORUM if request.param == "quorum" else {})
    broker.declare(made)
    yield made
    broker.delete(made.name)


# -- topology --


@pytest.mark.parametrize("name", list(VECTORS["queues"]))
def test_what_celery_declared_is_declared_the_same_here(broker: AMQPBroker, raw: Any, name: str) -> None:
    """RabbitMQ refuses a declaration that differs in any flag or argument."""
    calls = {method["method"]: method["args"] for method in VECTORS["queues"][name]["methods"]}
    exchange, queue, bind = calls["exchange.declare"], calls["queue.declare"], calls["queue.bind"]
    raw.exchange_declare(
        exchange["exchange"], exchange["type"], durable=exchange["durable"], auto_delete=exchange["auto_delete"]
    )
    raw.queue_declare(
        queue["queue"], durable=queue["durable"], auto_delete=queue["auto_delete"], arguments=queue["arguments"]
    )
    given = dict(queue["arguments"])
    ours = Queue(
        queue["queue"],
        exchange=Exchange(
            exchange["exchange"],
            type=exchange["type"],
            durable=exchange["durable"],
            auto_delete=exchange["auto_delete"],
        ),
        routing_key=bind["routing_key"],
        durable=queue["durable"],
        auto_delete=queue["auto_delete"],
        expires=given.pop("x-expires", 0) / 1000 or None,
        message_ttl=given.pop("x-message-ttl", 0) / 1000 or None,
        max_length=given.pop("x-max-length", None),
        max_length_bytes=given.pop("x-max-length-bytes", None),
        max_priority=given.pop("x-max-priority", None),
        queue_arguments=given,
        binding_arguments=bind["arguments"],
    )
    broker.declare(ours)
    raw.queue_unbind(queue["queue"], exchange["exchange"], bind["routing_key"], bind["arguments"])
    broker.delete(queue["queue"])


def test_delay_queues_are_celerys() -> None:
    levels = {f"celery_delayed_{n}": level_arguments(n, "quorum") for n in range(28)}
    assert levels == VECTORS["delay_queues"]
    assert delayed_key(3, "celery") == VECTORS["delayed_key"]


def test_declared_delay_levels_are_accepted_as_celery_declares_them(broker: AMQPBroker, raw: Any, queue: Queue) -> None:
    broker.publish([make(queue.name, eta=time.time() + 3600)])
    for name, arguments in VECTORS["delay_queues"].items():
        raw.queue_declare(name, durable=True, arguments=arguments)
    for source, destination, kind, key in VECTORS["delay_bindings"]:
        if kind == "exchange":
            raw.exchange_bind(destination, source, key)
        else:
            raw.queue_bind(destination, source, key)


@pytest.mark.parametrize(
    ("delay", "parts"),
    [(0.001, (0, 50)), (0.05, (0, 50)), (0.051, (0, 100)), (0.96, (1, 0)), (1.0, (1, 0)), (2.31, (2, 350))],
)
def test_delay_is_rounded_up(delay: float, parts: tuple[int, int]) -> None:
    assert split_delay(delay) == parts


def test_delay_beyond_all_levels_is_as_long_as_can_be() -> None:
    assert split_delay(1e12) == (2**28 - 1, 0)


def test_names_of_the_fanout_exchanges() -> None:
    kinds = {
        name: (fanout_exchange(name).type, fanout_exchange(name).durable)
        for name in ("celery.pidbox", "reply.celery.pidbox", "celeryev")
    }
    assert kinds == {
        "celery.pidbox": ("fanout", False),
        "reply.celery.pidbox": ("direct", False),
        "celeryev": ("topic", True),
    }


# -- refusals --


def test_redeclaring_otherwise_names_queue_and_difference(broker: AMQPBroker, queue: Queue) -> None:
    other = {} if queue.queue_arguments else QUORUM
    with pytest.raises(BrokerError) as caught:
        broker.declare(Queue(queue.name, queue_arguments=other))
    text = str(caught.value)
    assert queue.name in text
    assert "x-queue-type" in text
    assert "quorum" in text
    assert "classic" in text
    broker.publish([make(queue.name)])


def test_unroutable_messages_are_named_and_the_others_arrive(broker: AMQPBroker, queue: Queue) -> None:
    lost = make("", exchange="amq.direct", routing_key="nobody", task="lost.task")
    with pytest.raises(UnroutableMessage, match=r"lost\.task.*amq\.direct.*nobody"):
        broker.publish([make(queue.name), lost, make(queue.name)])
    assert broker.size(queue.name).ready == 2


def test_missing_exchange_does_not_harm_other_threads(broker: AMQPBroker, queue: Queue) -> None:
    def good() -> None:
        for _ in range(30):
            broker.publish([make(queue.name)])

    def bad() -> None:
        for _ in range(5):
            with pytest.raises(UnroutableMessage):
                broker.publish([make("", exchange="no-such-exchange", routing_key="k")])

    threads = [Running(good), Running(bad), Running(good)]
    for thread in threads:
        thread.result()
    assert broker.size(queue.name).ready >= 60


def test_deleted_queue_is_made_anew_on_publish(broker: AMQPBroker, raw: Any, queue: Queue) -> None:
    broker.publish([make(queue.name)])
    raw.queue_delete(queue.name)
    broker.publish(many(queue.name, 3))
    assert broker.size(queue.name).ready == 3
    broker.declare(queue)


def test_wrong_password_is_refused_at_once(rabbitmq_url: str) -> None:
    scheme, _, rest = rabbitmq_url.partition("://")
    broker = AMQPBroker(f"{scheme}://guest:wr0ng@{rest.rpartition('@')[2]}")
    with pytest.raises(BrokerError) as caught:
        broker.publish([make("q")])
    assert "wr0ng" not in str(caught.value)
    broker.close()


# -- addresses --


def test_urls() -> None:
    first, second = addresses("amqp://u:p%40ss@a:1/v%2Fhost?heartbeat=7;amqps://b", Options(ssl={"cert_reqs": 0}))
    assert (first.host, first.port, first.vhost, first.username, first.password, first.heartbeat) == (
        "a",
        1,
        "v/host",
        "u",
        "p@ss",
        7,
    )
    assert (second.host, second.port, second.vhost, second.username) == ("b", 5671, "/", "guest")
    assert "p@ss" not in first.shown
    assert "p%40ss" not in first.shown


def test_second_server_is_taken_when_the_first_is_down(rabbitmq_url: str, queue: Queue) -> None:
    broker = AMQPBroker(f"amqp://guest:guest@127.0.0.1:1//;{rabbitmq_url}")
    broker.publish([make(queue.name)])
    assert broker.size(queue.name).ready == 1
    broker.close()


# -- alarms --


@pytest.mark.slow
@pytest.mark.timeout(180)
def test_memory_alarm_makes_publish_fail_in_time_and_say_so(private_server: Callable[[str], PrivateServer]) -> None:
    server = private_server("rabbitmq")
    evaluate: Callable[[str], None] = server._instance.server._evaluate  # type: ignore[attr-defined]
    broker = AMQPBroker(server.url)
    broker.declare(Queue("q"))
    broker.publish(many("q", 3))
    evaluate("ok = vm_memory_monitor:set_vm_memory_high_watermark(0.00001)")
    evaluate("F = fun(F) -> case rabbit_alarm:get_alarms() of [] -> timer:sleep(20), F(F); _ -> ok end end, F(F)")
    try:
        before = time.monotonic()
        with pytest.raises(PublishTimeout, match=r"blocks publishers.*memory"):
            broker.publish([make("q")], timeout=1.5)
        assert time.monotonic() - before < 3.0
        assert broker.size("q").ready >= 3, "administration goes on"
        with broker.consumer([Queue("q")], name="w@test") as consumer:
            ack(consumer, take(consumer, 3))
        waiting = Running(lambda: broker.publish([make("q", b"after")], timeout=60.0))
    finally:
        evaluate("ok = vm_memory_monitor:set_vm_memory_high_watermark(0.4)")
    waiting.result(60.0)
    broker.close()


# -- flow --


def test_nothing_is_taken_that_nobody_asked_for(broker: AMQPBroker, queue: Queue) -> None:
    broker.publish(many(queue.name, 20))
    with broker.consumer([queue], name="w@test") as consumer:
        held = take(consumer, 3)
        wait_for(lambda: broker.size(queue.name).ready == 17)
        consumer.settle([Settlement(held[0])])
        settled = consumer.settle([Settlement(held[1])], want=1)
        taken = numbers(settled.deliveries or take(consumer, 1))
        assert taken == [3]
        wait_for(lambda: broker.size(queue.name).ready == 16)


def test_message_for_an_idle_worker_is_not_kept_by_a_busy_one(broker: AMQPBroker, queue: Queue) -> None:
    busy, idle = broker.consumer([queue], name="a@test"), broker.consumer([queue], name="b@test")
    broker.publish(many(queue.name, 1))
    held = take(busy, 1)
    take_none(busy, 0.1)
    waiting = Running(lambda: take(idle, 1))
    broker.publish(many(queue.name, 1))
    waiting.result(5.0)
    ack(busy, held)
    busy.close()
    idle.close()


def test_surplus_of_several_queues_goes_back_on_renew(broker: AMQPBroker, queue: Queue) -> None:
    other = Queue(f"{queue.name}-other", queue_arguments=queue.queue_arguments)
    broker.declare(other)
    broker.publish([make(queue.name, b"1"), make(other.name, b"2")])
    consumer = broker.consumer([queue, other], name="w@test")
    (held,) = take(consumer, 1)

    def back() -> bool:
        consumer.renew()
        return broker.size(queue.name).ready + broker.size(other.name).ready == 1

    wait_for(back)
    with broker.consumer([queue, other], name="x@test") as heir:
        (taken,) = take(heir, 1)
        assert {held.message.body, taken.message.body} == {b"1", b"2"}
        assert taken.deliveries == 0 or not queue.queue_arguments
        ack(heir, [taken])
    ack(consumer, [held])
    consumer.close()
    broker.delete(other.name)


def test_many_requeues_do_not_count(broker: AMQPBroker, queue: Queue) -> None:
    broker.publish(many(queue.name, 1))
    with broker.consumer([queue], name="w@test") as consumer:
        for _ in range(25):
            (delivery,) = take(consumer, 1)
            assert delivery.deliveries == 0
            consumer.settle([Settlement(delivery, Action.REQUEUE)])


def test_failed_follow_up_leaves_its_settlement_and_settles_the_rest_once(broker: AMQPBroker, queue: Queue) -> None:
    after = Queue(f"{queue.name}-after")
    broker.declare(after)
    broker.publish(many(queue.name, 3))
    with broker.consumer([queue], name="w@test") as consumer:
        held = take(consumer, 3)
        settlements = [Settlement(delivery, publish=(make(after.name),)) for delivery in held]
        settlements[1].publish = (make("", exchange="amq.direct", routing_key="nobody"),)
        with pytest.raises(UnroutableMessage):
            consumer.settle(settlements)
        with pytest.raises(UnroutableMessage):
            consumer.settle(settlements)
        settlements[1].publish = ()
        assert consumer.settle(settlements).stale == []
    assert broker.size(after.name).ready == 2
    assert broker.size(queue.name).ready == 0
    broker.delete(after.name)


def test_lost_hold_is_told_once_and_nothing_is_claimed_before(rabbitmq_url: str, queue: Queue) -> None:
    with TCPProxy.to(rabbitmq_url) as proxy:
        broker = AMQPBroker(proxy.url(rabbitmq_url))
        broker.publish(many(queue.name, 2))
        consumer = broker.consumer([queue], name="w@test")
        take(consumer, 1)
        proxy.cut()
        with pytest.raises(OperationalError):
            while True:
                consumer.receive(1, 1.0)
        assert persist(lambda: consumer.receive(2, 0.3)) == []
        assert not consumer.renew()
        assert consumer.renew()
        assert len(take(consumer, 2)) == 2
        consumer.close()
        broker.close()


# -- delays --


def test_hold_is_not_proven_while_the_broker_is_silent(rabbitmq_url: str, queue: Queue) -> None:
    """A silent connection may be one that the broker has given up: nothing is claimed to be held, nothing copied."""
    with TCPProxy.to(rabbitmq_url) as proxy:
        broker = AMQPBroker(proxy.url(rabbitmq_url) + "?heartbeat=7")
        try:
            broker.publish(many(queue.name, 1))
            with broker.consumer([queue], name="one") as consumer:
                assert consumer.proven_for == 7
                held = take(consumer, 1)
                assert consumer.renew()
                proxy.blackhole()
                with pytest.raises(OperationalError, match="did not answer"):
                    consumer.renew()
                proxy.heal()
                wait_for(consumer.renew, 5)
                ack(consumer, held)
        finally:
            broker.close()


def test_messages_of_many_threads_are_whole_when_the_socket_is_full(broker: AMQPBroker, queue: Queue) -> None:
    """Each thread writes its own frames; what the socket does not take at once must not be mixed with others'."""
    size, count, writers = 300_000, 12, 4
    bodies = [[bytes([65 + writer]) * size for _ in range(count)] for writer in range(writers)]

    def publish(writer: int) -> None:
        broker.publish([make(queue.name, body=body) for body in bodies[writer]])

    threads = [threading.Thread(target=publish, args=(writer,)) for writer in range(writers)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    with broker.consumer([queue], name="reader") as consumer:
        found = take(consumer, writers * count)
        assert sorted(delivery.message.body for delivery in found) == [body for each in bodies for body in each]
        ack(consumer, found)


def test_names_that_end_alike_do_not_share_delayed_messages(broker: AMQPBroker, queue: Queue) -> None:
    tail = f"tail-{secrets.token_hex(4)}"
    short, long = Queue(tail), Queue(f"head.{tail}")
    for each in (short, long):
        broker.declare(each)
    broker.publish([make(short.name, b"1", eta=time.time() + 0.1), make(long.name, b"2", eta=time.time() + 0.1)])
    with broker.consumer([short], name="s@test") as first, broker.consumer([long], name="l@test") as second:
        assert numbers(take(first, 1)) == [1]
        assert numbers(take(second, 1)) == [2]
        take_none(first)
        take_none(second)
    for each in (short, long):
        broker.delete(each.name)


@pytest.mark.parametrize("kind", ["direct", "topic", "fanout"])
def test_delayed_message_for_an_exchange(broker: AMQPBroker, kind: str) -> None:
    exchange = Exchange(f"x-{secrets.token_hex(4)}", type=kind)
    queue = Queue(f"q-{secrets.token_hex(4)}", exchange=exchange, routing_key="a.b")
    broker.declare(queue)

    def once() -> float:
        eta = time.time() + 0.3
        broker.publish([make("", b"1", eta=eta, exchange=exchange.name, routing_key="a.b")])
        (delivery,) = take(consumer, 1)
        late = time.time() - eta
        assert late >= -0.05
        assert (delivery.message.exchange, delivery.message.routing_key) == (exchange.name, "a.b")
        ack(consumer, [delivery])
        return late

    with broker.consumer([queue], name="w@test") as consumer:
        assert_prompt(0.5, once)
    broker.delete(queue.name)


def test_purging_one_queue_leaves_the_delays_of_others(broker: AMQPBroker, queue: Queue) -> None:
    other = Queue(f"{queue.name}.other")
    broker.declare(other)
    eta = time.time() + 3.0
    broker.publish([make(queue.name, eta=eta), make(other.name, b"7", eta=eta), make(queue.name)])
    assert broker.purge(queue.name) == 2
    with broker.consumer([queue, other], name="w@test") as consumer:
        (delivery,) = take(consumer, 1)
        assert delivery.message.body == b"7"
        assert -0.05 <= time.time() - eta <= 0.5
        take_none(consumer, 0.5)
    broker.delete(other.name)


def test_delayed_message_of_a_celery_client_is_taken_for_its_queue(broker: AMQPBroker, raw: Any) -> None:
    """A quorum queue with a topic exchange: Celery's clients send to ``celery_delayed_27``."""
    name = f"cq-{secrets.token_hex(4)}"
    queue = Queue(name, exchange=Exchange(name, type="topic"), queue_arguments=QUORUM)
    broker.declare(queue)
    headers = {"task": "t", "id": "1"}
    raw.basic_publish("celery_delayed_27", delayed_key(1, name), b"[]", pika.BasicProperties(headers=headers))
    with broker.consumer([queue], name="w@test") as consumer:
        (delivery,) = take(consumer, 1)
        assert (delivery.message.exchange, delivery.message.routing_key) == ("", name)
        assert (delivery.message.task, delivery.deliveries) == ("t", 0)
        ack(consumer, [delivery])
        take_none(consumer)
    broker.delete(name)


# -- the I/O thread --


def test_single_publishes_of_many_threads_share_one_connection(broker: AMQPBroker, queue: Queue) -> None:
    before = threading.active_count()
    threads = [Running(lambda: [broker.publish([make(queue.name)]) for _ in range(50)]) for _ in range(8)]
    for thread in threads:
        thread.result()
    assert broker.size(queue.name).ready == 400
    assert threading.active_count() <= before + 2
