"""Settling: each way in which a delivery ends, with all that belongs to it."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator

import pytest

from conformance.broker.conftest import Consume
from conformance.drivers import Driver
from conformance.messages import ack, end, make, many, numbers, take, take_none
from conformance.waiting import Running, assert_prompt, timed
from umbel.backends import open_backend
from umbel.backends.base import Backend, Meta
from umbel.brokers.base import Action, Broker, Consumer, Settlement
from umbel.errors import UmbelError
from umbel.message import new_id
from umbel.queues import Queue
from workers import wait_for


@pytest.fixture
def backend(broker: Broker, url: str) -> Iterator[Backend]:
    """The result store in the broker's own system."""
    try:
        store = open_backend(url)
    except (ModuleNotFoundError, UmbelError) as error:
        pytest.skip(f"no results are stored in this system: {error}")
    if not broker.stores_results_of(store):
        pytest.skip("results are stored apart from settling")
    yield store
    store.close()


def test_acknowledged_message_is_gone(broker: Broker, consume: Consume, queue: Queue) -> None:
    broker.publish([make(queue.name)])
    first = consume()
    ack(first, take(first, 1))
    first.close()
    take_none(consume())


def test_unsettled_message_is_delivered_to_nobody_else(broker: Broker, consume: Consume, queue: Queue) -> None:
    broker.publish([make(queue.name)])
    first, second = consume(), consume()
    take(first, 1)
    take_none(second)
    take_none(first)


def test_requeued_message_is_delivered_again(broker: Broker, consumer: Consumer, queue: Queue) -> None:
    sent = make(queue.name, b"7")
    broker.publish([sent])
    (delivery,) = take(consumer, 1)
    end(consumer, delivery, Action.REQUEUE)
    (again,) = take(consumer, 1)
    assert again.message.id == sent.id
    assert again.message.body == b"7"
    ack(consumer, [again])
    take_none(consumer)


def test_counted_requeue_counts(broker: Broker, consumer: Consumer, queue: Queue, driver: Driver) -> None:
    broker.publish([make(queue.name)])
    seen: list[int] = []
    for _ in range(4):
        (delivery,) = take(consumer, 1)
        seen.append(delivery.deliveries)
        end(consumer, delivery, Action.REQUEUE, count=True)
    if driver.counts_deliveries:
        assert seen == [0, 1, 2, 3]
    else:
        assert seen[0] == 0
        assert all(seen[1:])


def test_uncounted_requeue_does_not_count(broker: Broker, consumer: Consumer, queue: Queue, driver: Driver) -> None:
    if not driver.counts_deliveries:
        pytest.skip("the system tells only that there were deliveries")
    broker.publish([make(queue.name)])
    for _ in range(3):
        (delivery,) = take(consumer, 1)
        assert delivery.deliveries == 0
        end(consumer, delivery, Action.REQUEUE)


@pytest.mark.calm
def test_requeue_with_delay(broker: Broker, consumer: Consumer, queue: Queue) -> None:
    def once() -> float:
        broker.publish([make(queue.name, b"1")])
        (delivery,) = take(consumer, 1)
        before = time.time()
        end(consumer, delivery, Action.REQUEUE, delay=1.0)
        (again,) = take(consumer, 1)
        waited = time.time() - before
        assert waited >= 0.95
        assert again.message.body == b"1"
        assert again.message.headers == delivery.message.headers
        assert again.queue == queue.name
        ack(consumer, [again])
        return waited

    assert_prompt(1.3, once)


def test_count_survives_a_delay(broker: Broker, consumer: Consumer, queue: Queue, driver: Driver) -> None:
    broker.publish([make(queue.name)])
    (delivery,) = take(consumer, 1)
    end(consumer, delivery, Action.REQUEUE, delay=0.1, count=True)
    (again,) = take(consumer, 1)
    assert again.deliveries == 1 or (again.deliveries and not driver.counts_deliveries)


def test_dead_lettered_message_is_kept_with_its_reason(broker: Broker, consumer: Consumer, queue: Queue) -> None:
    sent = make(queue.name, b"poison", extra={"x-tenant": "ä"})
    broker.publish([sent])
    (delivery,) = take(consumer, 1)
    before = time.time()
    end(consumer, delivery, Action.DEAD_LETTER, reason="killed by signal 11: ünïcode")
    take_none(consumer)
    (letter,) = wait_for(lambda: broker.dead_letters(queue.name))
    assert letter.queue == queue.name
    assert letter.reason == "killed by signal 11: ünïcode"
    assert letter.message.id == sent.id
    assert letter.message.task == sent.task
    assert letter.message.body == b"poison"
    assert letter.message.headers == delivery.message.headers
    assert before - 1 <= letter.at <= time.time() + 1


def test_parked_message_waits_for_unpark(broker: Broker, consumer: Consumer, queue: Queue) -> None:
    broker.publish([make(queue.name, b"1", task="nobody.knows")])
    (delivery,) = take(consumer, 1)
    end(consumer, delivery, Action.PARK)
    take_none(consumer)
    assert wait_for(lambda: broker.parked(queue.name)) == {"nobody.knows": 1}
    assert broker.unpark(queue.name, ["nobody.knows"]) == 1
    (again,) = take(consumer, 1)
    assert again.message.id == delivery.message.id
    ack(consumer, [again])
    assert broker.parked(queue.name) == {}


@pytest.mark.parametrize("action", list(Action))
def test_follow_ups_are_published_once_with_any_end(
    broker: Broker, consume: Consume, queue: Queue, new_queue: Callable[..., Queue], action: Action
) -> None:
    after = new_queue()
    broker.publish([make(queue.name)])
    consumer, follower = consume(), consume(after)
    (delivery,) = take(consumer, 1)
    follow_ups = tuple(many(after.name, 3))
    end(consumer, delivery, action, publish=follow_ups, delay=30.0 if action is Action.REQUEUE else 0.0)
    assert numbers(take(follower, 3)) == [0, 1, 2]
    take_none(follower)


def test_follow_up_with_eta_waits(
    broker: Broker, consume: Consume, queue: Queue, new_queue: Callable[..., Queue]
) -> None:
    after = new_queue()
    broker.publish([make(queue.name)])
    consumer, follower = consume(), consume(after)
    (delivery,) = take(consumer, 1)
    eta = time.time() + 0.7
    end(consumer, delivery, Action.ACK, publish=(make(after.name, eta=eta),))
    take(follower, 1)
    assert time.time() >= eta - 0.05


def test_follow_up_may_go_to_the_same_queue(broker: Broker, consumer: Consumer, queue: Queue) -> None:
    broker.publish([make(queue.name, b"0")])
    for number in range(1, 30):
        (delivery,) = take(consumer, 1)
        assert numbers([delivery]) == [number - 1]
        end(consumer, delivery, Action.ACK, publish=(make(queue.name, str(number).encode()),))


def test_settle_brings_new_deliveries(broker: Broker, consumer: Consumer, queue: Queue) -> None:
    broker.publish(many(queue.name, 100))
    held = take(consumer, 10)
    taken = numbers(held)
    deadline = time.monotonic() + 20
    while len(taken) < 100:
        assert time.monotonic() < deadline
        settled = consumer.settle([Settlement(delivery) for delivery in held], want=10)
        assert len(settled.deliveries) <= 10
        held = settled.deliveries
        taken += numbers(held)
    assert taken == list(range(100))
    assert consumer.settle([Settlement(delivery) for delivery in held], want=10).deliveries == []


def test_settle_without_want_claims_nothing(broker: Broker, consumer: Consumer, queue: Queue) -> None:
    broker.publish(many(queue.name, 5))
    held = take(consumer, 1)
    assert consumer.settle([Settlement(held[0])]).deliveries == []


def test_settle_does_not_wait(consumer: Consumer) -> None:
    consumer.settle([], want=5)

    def once() -> None:
        assert consumer.settle([], want=5).deliveries == []

    assert_prompt(0.5, lambda: timed(once))


def test_one_call_settles_each_in_its_own_way(broker: Broker, consumer: Consumer, queue: Queue) -> None:
    broker.publish([make(queue.name, str(n).encode(), task=f"task.{n}") for n in range(5)])
    held = take(consumer, 5)
    actions = [Action.ACK, Action.REQUEUE, Action.DEAD_LETTER, Action.PARK, Action.ACK]
    settled = consumer.settle([Settlement(d, a, reason="r") for d, a in zip(held, actions, strict=True)])
    assert settled.stale == []
    assert numbers(take(consumer, 1)) == [1]
    take_none(consumer)
    wait_for(lambda: numbers([letter.message for letter in broker.dead_letters(queue.name)]) == [2])
    wait_for(lambda: broker.parked(queue.name) == {"task.3": 1})


def test_settled_twice_is_stale(
    broker: Broker, consume: Consume, queue: Queue, new_queue: Callable[..., Queue]
) -> None:
    after = new_queue()
    broker.publish([make(queue.name)])
    consumer = consume()
    (delivery,) = take(consumer, 1)
    ack(consumer, [delivery])
    second = Settlement(delivery, Action.REQUEUE, publish=(make(after.name),))
    consumer.settle([second])
    take_none(consumer)
    take_none(consume(after))


def test_out_of_order_settlement(broker: Broker, consume: Consume, queue: Queue) -> None:
    broker.publish(many(queue.name, 10))
    consumer = consume()
    held = take(consumer, 10)
    ack(consumer, [held[7]])
    ack(consumer, [held[2], held[9]])
    consumer.close()
    assert numbers(take(consume(), 7)) == [0, 1, 3, 4, 5, 6, 8]


def test_result_is_stored_with_the_settlement(
    broker: Broker, consumer: Consumer, queue: Queue, backend: Backend
) -> None:
    ids = [new_id() for _ in range(20)]
    broker.publish([make(queue.name, id=id) for id in ids])
    held = take(consumer, 20)
    settlements = [
        Settlement(d, result=backend.encode(Meta(task_id=d.message.id, status="SUCCESS", result=n)))
        for n, d in enumerate(held)
    ]
    assert consumer.settle(settlements).stale == []
    assert {id: meta.result for id, meta in backend.get(ids).items()} == {id: n for n, id in enumerate(ids)}
    take_none(consumer)


def test_result_of_a_settlement_wakes_who_waits(
    broker: Broker, consumer: Consumer, queue: Queue, backend: Backend
) -> None:
    def once() -> float:
        message = make(queue.name)
        broker.publish([message])
        seen: list[Meta] = []
        waiting = Running(lambda: backend.wait([message.id], 10.0, seen.append))
        (delivery,) = take(consumer, 1)
        result = backend.encode(Meta(task_id=message.id, status="SUCCESS", result=42))
        end(consumer, delivery, Action.ACK, result=result)
        settled = time.time()
        assert waiting.result()
        assert seen[-1].result == 42
        return waiting.ended - settled

    assert_prompt(1.0, once)


def test_result_does_not_overwrite_success(broker: Broker, consumer: Consumer, queue: Queue, backend: Backend) -> None:
    message = make(queue.name)
    backend.store([backend.encode(Meta(task_id=message.id, status="SUCCESS", result=1))])
    broker.publish([message])
    (delivery,) = take(consumer, 1)
    failed = backend.encode(Meta(task_id=message.id, status="RETRY", result={"exc_type": "E"}))
    end(consumer, delivery, Action.REQUEUE, result=failed, delay=30.0)
    assert backend.get([message.id])[message.id].result == 1
