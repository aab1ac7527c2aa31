"""Delays: messages with an eta come at their time, not before and not much after, while nothing else runs."""

from __future__ import annotations

import time

import pytest

from conformance.broker.conftest import Connect, Consume
from conformance.messages import ack, drain, make, many, numbers, take, take_none
from conformance.waiting import Running
from umbel.brokers.base import Broker, Consumer, Delivery
from umbel.queues import Queue
from workers import wait_for

EARLY, LATE = -0.05, 0.2


def timed(consumer: Consumer) -> tuple[Delivery, float]:
    """The next delivery, and by how many seconds it came after its eta."""
    (delivery,) = take(consumer, 1)
    assert delivery.message.eta is not None
    return delivery, time.time() - delivery.message.eta


@pytest.mark.calm
@pytest.mark.timed(0.1)
@pytest.mark.parametrize("delay", [0.1, 0.5, 1.0, 2.3])
def test_delayed_message_is_in_time(broker: Broker, consumer: Consumer, queue: Queue, delay: float) -> None:
    consumer.receive(1, 0.0)
    broker.publish([make(queue.name, eta=time.time() + delay)])
    _, late = timed(consumer)
    assert EARLY <= late <= LATE


@pytest.mark.calm
@pytest.mark.timed(0.1)
def test_several_delays_each_in_time(broker: Broker, consumer: Consumer, queue: Queue) -> None:
    consumer.receive(1, 0.0)
    start = time.time() + 0.2
    delays = [1.6, 0.3, 0.9, 0.45, 1.2]
    broker.publish([make(queue.name, str(n).encode(), eta=start + delay) for n, delay in enumerate(delays)])
    seen = [timed(consumer) for _ in delays]
    assert numbers([delivery for delivery, _ in seen]) == [1, 3, 2, 4, 0]
    assert all(EARLY <= late <= LATE for _, late in seen), [late for _, late in seen]


@pytest.mark.calm
@pytest.mark.timed(0.1)
def test_published_by_another_while_receive_waits(connect: Connect, consumer: Consumer, queue: Queue) -> None:
    receiving = Running(lambda: timed(consumer))
    other = connect()
    other.publish([make(queue.name, b"far", eta=time.time() + 3600)])
    other.publish([make(queue.name, b"near", eta=time.time() + 0.8)])
    delivery, late = receiving.result()
    assert delivery.message.body == b"near"
    assert EARLY <= late <= LATE


def test_eta_in_the_past_is_now(broker: Broker, consumer: Consumer, queue: Queue) -> None:
    eta = time.time() - 60
    broker.publish([make(queue.name, eta=eta)])
    (delivery,) = take(consumer, 1, timeout=2.0)
    assert delivery.message.eta == pytest.approx(eta, abs=0.001)


def test_delayed_message_arrives_whole(broker: Broker, consumer: Consumer, queue: Queue) -> None:
    sent = make(queue.name, b"\x00\xff", eta=time.time() + 0.3, extra={"x-tenant": "ä"}, reply_to="r")
    broker.publish([sent])
    (delivery,) = take(consumer, 1)
    got = delivery.message
    assert (got.id, got.task, got.body, got.headers) == (sent.id, sent.task, sent.body, sent.headers)
    assert (got.queue, got.reply_to, delivery.deliveries) == (queue.name, "r", 0)
    ack(consumer, [delivery])


def test_far_future_is_kept(broker: Broker, consumer: Consumer, queue: Queue) -> None:
    broker.publish([make(queue.name, eta=time.time() + 30 * 86400)])
    take_none(consumer, 0.5)
    assert wait_for(lambda: broker.size(queue.name).delayed) in (1, -1)


def test_delayed_messages_do_not_hold_up_others(broker: Broker, consumer: Consumer, queue: Queue) -> None:
    broker.publish(many(queue.name, 100, eta=time.time() + 3600))
    broker.publish(many(queue.name, 100))
    assert numbers(take(consumer, 100)) == list(range(100))


def test_many_due_at_once(broker: Broker, consumer: Consumer, queue: Queue) -> None:
    broker.publish(many(queue.name, 1_000, eta=time.time() + 1.0), timeout=30.0)
    taken = drain(consumer, least=1_000)
    assert sorted(numbers(taken)) == list(range(1_000))


def test_each_delayed_message_goes_to_one_consumer(broker: Broker, consume: Consume, queue: Queue) -> None:
    broker.publish(many(queue.name, 300, eta=time.time() + 0.5))
    draining = [
        Running(lambda consumer=consumer: drain(consumer, 2.0)) for consumer in (consume(), consume(), consume())
    ]
    taken = [number for thread in draining for number in numbers(thread.result())]
    assert sorted(taken) == list(range(300))


def test_delay_outlives_its_publisher(broker: Broker, connect: Connect, consume: Consume, queue: Queue) -> None:
    broker.publish([make(queue.name, b"1", eta=time.time() + 0.5)])
    broker.close()
    assert numbers(take(consume(broker=connect()), 1)) == [1]


def test_mixed_fleet_leaves_the_waiting_to_the_worker(connect: Connect, consumer: Consumer, queue: Queue) -> None:
    eta = time.time() + 3600
    connect(mixed_fleet=True).publish([make(queue.name, eta=eta)])
    (delivery,) = take(consumer, 1)
    assert delivery.message.eta == pytest.approx(eta, abs=0.001)
