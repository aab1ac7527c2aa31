"""Consuming: who gets what, how long it waits, and what closing gives back."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable

import pytest

from conformance.broker.conftest import Consume
from conformance.drivers import Driver
from conformance.messages import ack, make, many, numbers, take, take_none
from conformance.waiting import Child, Running, assert_prompt, every, timed
from umbel.brokers.base import Broker, Consumer, Delivery, Settlement
from umbel.message import Message
from umbel.queues import Queue
from workers import wait_for


def test_receive_waits_as_long_as_it_was_told(consumer: Consumer) -> None:
    consumer.receive(1, 0.0)

    def once() -> float:
        waited = timed(lambda: take_none(consumer, 0.5))
        assert waited >= 0.4
        return waited

    assert_prompt(1.0, once)


def test_receive_without_time_does_not_wait(consumer: Consumer) -> None:
    consumer.receive(1, 0.0)
    assert_prompt(0.3, lambda: timed(lambda: take_none(consumer, 0.0)))


def test_receive_returns_early_with_what_is_there(broker: Broker, consumer: Consumer, queue: Queue) -> None:
    broker.publish(many(queue.name, 3))
    before = time.monotonic()
    taken = consumer.receive(100, 30.0)
    assert time.monotonic() - before < 2.0
    assert numbers(taken) == list(range(len(taken)))
    assert taken


def test_receive_keeps_to_its_limit(broker: Broker, consumer: Consumer, queue: Queue) -> None:
    broker.publish(many(queue.name, 20))
    taken: list[Delivery] = []
    while len(taken) < 20:
        batch = consumer.receive(3, 5.0)
        assert 1 <= len(batch) <= 3
        taken += batch
    assert numbers(taken) == list(range(20))


def test_one_consumer_of_several_queues(broker: Broker, consume: Consume, new_queue: Callable[..., Queue]) -> None:
    queues = [new_queue() for _ in range(3)]
    consumer = consume(*queues)
    for number, queue in enumerate(queues):
        broker.publish([make(queue.name, str(number).encode())])
    taken = take(consumer, 3)
    assert {d.queue: int(d.message.body) for d in taken} == {queue.name: n for n, queue in enumerate(queues)}
    ack(consumer, taken)


def test_no_queue_starves(broker: Broker, consume: Consume, new_queue: Callable[..., Queue]) -> None:
    full, small = new_queue(), new_queue()
    broker.publish(many(full.name, 500))
    broker.publish(many(small.name, 1))
    consumer = consume(full, small, window=10)
    seen: list[Delivery] = []
    while not any(d.queue == small.name for d in seen):
        assert len(seen) < 520
        batch = take(consumer, 1)
        ack(consumer, batch)
        seen += batch


def test_expired_message_is_delivered(broker: Broker, consumer: Consumer, queue: Queue) -> None:
    message = make(queue.name, expires=time.time() + 0.2)
    broker.publish([message])
    (delivery,) = take(consumer, 1)
    assert delivery.message.expires == pytest.approx(message.expires, abs=0.001)
    ack(consumer, [delivery])


def test_close_gives_back_in_order_and_uncounted(
    broker: Broker, consume: Consume, queue: Queue, driver: Driver
) -> None:
    broker.publish(many(queue.name, 20))
    first = consume(window=8)
    take(first, 8)
    first.close()
    first.close()
    taken = take(consume(), 20)
    order = numbers(taken)
    assert [n for n in order if n < 8] == list(range(8))
    assert [n for n in order if n >= 8] == list(range(8, 20))
    assert order[:8] == list(range(8)) or not driver.returns_to_front
    assert not any(delivery.deliveries for delivery in taken) or not driver.counts_deliveries


def test_leaving_the_context_closes(broker: Broker, consume: Consume, queue: Queue) -> None:
    broker.publish([make(queue.name, b"1")])
    with consume() as first:
        take(first, 1)
    assert numbers(take(consume(), 1)) == [1]


def test_settling_after_close_is_refused(broker: Broker, consume: Consume, queue: Queue) -> None:
    broker.publish([make(queue.name, b"1")])
    first = consume()
    (delivery,) = take(first, 1)
    first.close()
    settlement = Settlement(delivery)
    assert first.settle([settlement]).stale == [settlement]
    assert numbers(take(consume(), 1)) == [1]


def test_interrupt_wakes_a_waiting_receive(consumer: Consumer) -> None:
    consumer.receive(1, 0.0)

    def once() -> float:
        waiting = Running(lambda: consumer.receive(1, 20.0))
        interrupted = time.time()
        with every(0.05, consumer.interrupt):
            assert waiting.result() == []
        return waiting.ended - interrupted

    assert_prompt(0.4, once)


def test_interrupted_consumer_goes_on(broker: Broker, consumer: Consumer, queue: Queue) -> None:
    consumer.interrupt()
    broker.publish([make(queue.name, b"1")])
    assert numbers(take(consumer, 1)) == [1]


def work(consumer: Consumer) -> list[str]:
    """Consume until nothing came for a while; the ids that were settled."""
    ids: list[str] = []
    held = consumer.receive(20, 2.0)
    while held:
        settled = consumer.settle([Settlement(delivery) for delivery in held], want=20)
        assert settled.stale == []
        ids += [delivery.message.id for delivery in held]
        held = settled.deliveries or consumer.receive(20, 2.0)
    return ids


def test_each_message_goes_to_one_of_several_threads(broker: Broker, consume: Consume, queue: Queue) -> None:
    messages = many(queue.name, 3_000)
    threads = [Running(lambda consumer=consumer: work(consumer)) for consumer in [consume() for _ in range(4)]]
    for start in range(0, 3_000, 100):
        broker.publish(messages[start : start + 100])
    taken = Counter(id for thread in threads for id in thread.result(100.0))
    assert taken == Counter(message.id for message in messages)


def test_each_message_goes_to_one_of_several_processes(
    broker: Broker, queue: Queue, child: Callable[..., Child]
) -> None:
    children = [child("work", queue) for _ in range(2)]
    for process in children:
        assert process.next() == "ready"
    taken: list[list[str]] = [[] for _ in children]

    def read(process: Child, ids: list[str]) -> None:
        while (batch := process.next(100.0)) is not None:
            ids += batch

    readers = [Running(lambda of=pair: read(*of)) for pair in zip(children, taken, strict=True)]
    messages: list[Message] = []
    # More while one has got nothing: the machine may have held it up. One that starves gets nothing of these either.
    while len(messages) < 3_000 or (len(messages) < 30_000 and not all(taken)):
        new = many(queue.name, 3_000 if not messages else 300)
        messages += new
        for start in range(0, len(new), 100):
            broker.publish(new[start : start + 100])
        sent = len(messages)
        wait_for(lambda sent=sent: sum(map(len, taken)) >= sent, 100, "all are taken")
    for process, reader in zip(children, readers, strict=True):
        process.tell()
        reader.result()
    assert Counter(id for ids in taken for id in ids) == Counter(message.id for message in messages)
    assert all(taken), "both processes got some"


def test_receive_settle_and_renew_at_once(broker: Broker, consumer: Consumer, queue: Queue, driver: Driver) -> None:
    """Three threads on one consumer, as in a worker. A renewal may give back what was pushed and not taken."""
    total = 2_000
    received: list[Delivery] = []
    settled: list[int] = []

    def receive() -> None:
        while len(received) < total:
            received.extend(consumer.receive(50, 0.5))

    def settle() -> None:
        while len(settled) < total:
            batch = received[len(settled) :][:50]
            assert consumer.settle([Settlement(delivery) for delivery in batch]).stale == []
            settled.extend(numbers(batch))
            if not batch:
                time.sleep(0.002)

    with every(0.01, consumer.renew):
        threads = [Running(receive), Running(settle)]
        for start in range(0, total, 100):
            broker.publish([make(queue.name, str(n).encode()) for n in range(start, start + 100)])
        for thread in threads:
            thread.result(60.0)
    assert (settled if driver.returns_to_front else sorted(settled)) == list(range(total))
    take_none(consumer)
