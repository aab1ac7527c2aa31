"""Publishing: what was published is there, whole, in order, for everybody."""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable

import pytest

from conformance.broker.conftest import Connect, Consume
from conformance.drivers import Driver
from conformance.messages import ack, drain, make, many, numbers, take, take_none
from conformance.waiting import Child, Running, assert_prompt
from umbel.brokers.base import Broker, Consumer, Features
from umbel.errors import UnroutableMessage
from umbel.message import decode_headers
from umbel.queues import Exchange, Queue
from workers import wait_for


def test_published_message_is_seen_by_another_broker_object(
    broker: Broker, connect: Connect, consume: Consume, queue: Queue
) -> None:
    message = make(queue.name)
    broker.publish([message])
    broker.close()
    (delivery,) = take(consume(broker=connect()), 1)
    assert delivery.message.id == message.id


def test_published_message_is_seen_by_another_process(
    broker: Broker, queue: Queue, child: Callable[..., Child]
) -> None:
    message = make(queue.name)
    broker.publish([message])
    assert child("peek", queue).next() == [message.id]


def test_every_field_arrives_as_it_was_sent(broker: Broker, consumer: Consumer, queue: Queue) -> None:
    expires = time.time() + 3600
    sent = make(
        queue.name,
        b"\x80\x00\xff body \x1e\n",
        task="пакет.задача",
        content_type="application/x-python-serialize",
        content_encoding="binary",
        reply_to="01234-reply",
        expires=expires,
        priority=0,
    )
    broker.publish([sent])
    (delivery,) = take(consumer, 1)
    got = delivery.message
    assert delivery.queue == got.queue == queue.name
    assert delivery.deliveries == 0
    assert delivery.fault == ""
    assert not got.redelivered
    assert got.eta is None
    for name in ("id", "task", "body", "content_type", "content_encoding", "reply_to", "correlation_id", "priority"):
        assert getattr(got, name) == getattr(sent, name), name
    assert got.expires == pytest.approx(expires, abs=0.001)


def test_headers_with_extras_survive(broker: Broker, consumer: Consumer, queue: Queue) -> None:
    extra = {
        "x-tenant": 'Ünïcødé \U0001f33c "quoted" \\ \n\t\x01',
        "x-number": -12345678901234,
        "x-real": 1.5,
        "x-none": None,
        "x-true": True,
        "x-nested": {"list": [1, "two", None, {"three": []}], "empty": {}},
        "traceparent": "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
    }
    sent = make(queue.name, extra=extra)
    broker.publish([sent])
    (delivery,) = take(consumer, 1)
    assert decode_headers(delivery.message.headers) == decode_headers(sent.headers)


@pytest.mark.parametrize("size", [0, 1, 1 << 20])
def test_bodies_of_any_size(broker: Broker, consumer: Consumer, queue: Queue, size: int) -> None:
    body = secrets.token_bytes(size)
    broker.publish([make(queue.name, body)])
    (delivery,) = take(consumer, 1)
    assert delivery.message.body == body
    ack(consumer, [delivery])


@pytest.mark.slow
def test_very_large_body(broker: Broker, consumer: Consumer, queue: Queue, driver: Driver) -> None:
    body = secrets.token_bytes(1 << 20) * (driver.largest_body >> 20)
    broker.publish([make(queue.name, body)], timeout=60.0)
    (delivery,) = take(consumer, 1, timeout=60.0)
    assert delivery.message.body == body
    ack(consumer, [delivery])


@pytest.mark.parametrize("prefix", ["простая-очередь", "q 空 🌼", "with.dots:colons/slashes%25", "UPPER'quote\"s"])
def test_queue_names(broker: Broker, consume: Consume, new_queue: Callable[..., Queue], prefix: str) -> None:
    queue = new_queue(prefix)
    broker.publish([make(queue.name, b"1")])
    (delivery,) = take(consume(queue), 1)
    assert delivery.queue == queue.name


def test_queue_names_differ_by_case(broker: Broker, consume: Consume, new_queue: Callable[..., Queue]) -> None:
    lower = new_queue("case")
    upper = Queue(lower.name.upper(), queue_arguments=lower.queue_arguments, max_priority=lower.max_priority)
    broker.declare(upper)
    try:
        broker.publish([make(upper.name)])
        take_none(consume(lower), 0.2)
        assert len(take(consume(upper), 1)) == 1
    finally:
        broker.delete(upper.name)


def test_publishing_nothing_does_nothing(broker: Broker, queue: Queue) -> None:
    broker.publish([])
    assert broker.size(queue.name).ready in (0, -1)


def test_queue_comes_into_being_on_first_use(broker: Broker, consume: Consume) -> None:
    queue = Queue(f"new-{secrets.token_hex(6)}")
    try:
        broker.publish([make(queue.name, b"1")])
        assert numbers(take(consume(queue), 1)) == [1]
    finally:
        broker.delete(queue.name)


def test_order_within_a_priority(broker: Broker, consumer: Consumer, queue: Queue) -> None:
    messages = many(queue.name, 300)
    broker.publish(messages[:100])
    for message in messages[100:120]:
        broker.publish([message])
    broker.publish(messages[120:])
    assert numbers(take(consumer, 300)) == list(range(300))


def levels(driver: Driver, features: Features) -> list[int]:
    """Priorities that are kept apart, lowest first; skips when there is but one."""
    count = driver.priorities or features.priorities
    if not features.priority or count < 2:
        pytest.skip("this kind of queue has no priorities")
    return [round(step * 9 / (count - 1)) for step in range(count)]


def test_higher_priority_goes_first(
    broker: Broker, consume: Consume, queue: Queue, driver: Driver, features: Features
) -> None:
    priorities = levels(driver, features)
    messages = [make(queue.name, str(n).encode(), priority=p) for n in range(3) for p in priorities]
    broker.publish(messages)
    taken = take(consume(window=1), len(messages))
    assert [(d.message.priority, int(d.message.body)) for d in taken] == [
        (p, n) for p in reversed(priorities) for n in range(3)
    ]


def test_urgent_message_overtakes_what_waits(
    broker: Broker, consume: Consume, queue: Queue, driver: Driver, features: Features
) -> None:
    lowest, *_, highest = levels(driver, features)
    broker.publish(many(queue.name, 20, priority=lowest))
    consumer = consume(window=1)
    ack(consumer, take(consumer, 1))
    broker.publish([make(queue.name, b"1000", priority=highest)])
    taken: list[int] = []
    while 1000 not in taken:
        (delivery,) = take(consumer, 1)
        taken += numbers([delivery])
        ack(consumer, [delivery])
    assert len(taken) <= 3, "a window of 1 may hold one or two messages that came before"


def test_lowest_priority_first_on_request(
    connect: Connect, consume: Consume, queue: Queue, driver: Driver, features: Features
) -> None:
    priorities = levels(driver, features)
    if not driver.orders_both_ways:
        pytest.skip("the system's own order of priorities is the only one")
    celery_like = connect(lowest_priority_first=True)
    celery_like.publish([make(queue.name, b"0", priority=p) for p in reversed(priorities)])
    taken = take(consume(broker=celery_like), len(priorities))
    assert [delivery.message.priority for delivery in taken] == priorities


def test_bulk(broker: Broker, consumer: Consumer, queue: Queue) -> None:
    messages = many(queue.name, 5_000)
    broker.publish(messages, timeout=60.0)
    taken = drain(consumer, least=5_000)
    assert numbers(taken) == list(range(5_000))


def test_one_call_may_fill_several_queues(broker: Broker, consume: Consume, new_queue: Callable[..., Queue]) -> None:
    queues = [new_queue() for _ in range(3)]
    broker.publish([make(queue.name, str(n).encode()) for n in range(10) for queue in queues])
    for queue in queues:
        assert numbers(take(consume(queue), 10)) == list(range(10))


def test_publishing_from_several_threads(broker: Broker, consumer: Consumer, queue: Queue) -> None:
    def send(start: int) -> None:
        for number in range(start, start + 100, 10):
            broker.publish([make(queue.name, str(n).encode()) for n in range(number, number + 10)])

    threads = [Running(lambda start=start: send(start)) for start in range(0, 800, 100)]
    for thread in threads:
        thread.result(60.0)
    assert sorted(numbers(take(consumer, 800))) == list(range(800))
    take_none(consumer)


def test_waiting_consumer_gets_a_message_at_once(broker: Broker, consumer: Consumer, queue: Queue) -> None:
    def once() -> float:
        receiving = Running(lambda: consumer.receive(1, 10.0))
        broker.publish([make(queue.name)])
        published = time.time()
        ack(consumer, receiving.result())
        return receiving.ended - published

    assert_prompt(1.0, once)
    assert broker.size(queue.name).ready == 0


@pytest.mark.parametrize(
    ("kind", "bound", "sent", "taken"),
    [
        ("direct", "red", "red", True),
        ("direct", "red", "green", False),
        ("topic", "image.*.small", "image.png.small", True),
        ("topic", "image.#", "image.png.small", True),
        ("topic", "image.*", "image.png.small", False),
        ("fanout", "", "anything", True),
    ],
)
def test_exchanges_route_by_key(
    broker: Broker,
    consume: Consume,
    new_queue: Callable[..., Queue],
    kind: str,
    bound: str,
    sent: str,
    taken: bool,
) -> None:
    exchange = Exchange(f"x-{secrets.token_hex(6)}", type=kind)
    queue = new_queue(exchange=exchange, routing_key=bound)
    message = make("", exchange=exchange.name, routing_key=sent)
    if taken:
        broker.publish([message])
        (delivery,) = take(consume(queue), 1)
        assert delivery.queue == queue.name
        assert delivery.message.id == message.id
    else:
        with pytest.raises(UnroutableMessage):
            broker.publish([message])
        take_none(consume(queue))


def test_fanout_exchange_copies_to_all_its_queues(
    broker: Broker, connect: Connect, consume: Consume, new_queue: Callable[..., Queue]
) -> None:
    exchange = Exchange(f"x-{secrets.token_hex(6)}", type="fanout")
    queues = [new_queue(exchange=exchange) for _ in range(3)]
    connect().publish([make("", b"1", exchange=exchange.name)])
    for queue in queues:
        assert numbers(take(consume(queue), 1)) == [1]


def test_unroutable_message_is_an_error(broker: Broker) -> None:
    with pytest.raises(UnroutableMessage):
        broker.publish([make("", exchange=f"none-{secrets.token_hex(6)}", routing_key="key")])


def test_broker_works_again_after_close(broker: Broker, queue: Queue) -> None:
    broker.publish([make(queue.name)])
    broker.close()
    broker.close()
    broker.publish([make(queue.name)])
    wait_for(lambda: broker.size(queue.name).ready in (2, -1))
