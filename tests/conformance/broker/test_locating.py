"""Locating: telling by its id where the message of a task stands, which tells a waiting task from one never sent."""

from __future__ import annotations

import time
from collections.abc import Callable

import pytest

from conformance.broker.conftest import Consume
from conformance.drivers import Driver
from conformance.messages import ack, end, make, many, take
from umbel.brokers.base import Action, Broker, Features, Place
from umbel.errors import BrokerError
from umbel.message import new_id
from umbel.queues import Queue
from workers import wait_for

Locate = Callable[[str], Place | None]


@pytest.fixture
def locate(broker: Broker, features: Features) -> Locate:
    if not features.locates:
        pytest.skip("this system's queues cannot be looked into")
    return broker.locate


def test_a_message_is_located_at_every_station(locate: Locate, broker: Broker, consume: Consume, queue: Queue) -> None:
    first, second = make(queue.name), make(queue.name)
    assert locate(first.id) is None
    broker.publish([first, second])
    assert locate(first.id) == locate(second.id) == "ready"
    consumer = consume()
    held = take(consumer, 2)
    assert locate(first.id) == locate(second.id) == "held"
    end(consumer, held[0], Action.PARK)
    end(consumer, held[1], Action.DEAD_LETTER, reason="no")
    assert (locate(first.id), locate(second.id)) == ("parked", "dead")
    broker.unpark(queue.name, [first.task])
    broker.replay(queue.name)
    assert locate(first.id) == locate(second.id) == "ready"
    ack(consumer, take(consumer, 2))
    assert locate(first.id) is locate(second.id) is None


def test_a_delayed_message_until_it_is_due(locate: Locate, broker: Broker, consume: Consume, queue: Queue) -> None:
    message = make(queue.name, eta=time.time() + 1.0)
    broker.publish([message])
    assert locate(message.id) == "delayed"
    consumer = consume()
    held = take(consumer, 1)
    assert locate(message.id) == "held"
    end(consumer, held[0], Action.REQUEUE, delay=60.0)
    assert locate(message.id) == "delayed"


def test_what_a_failed_delivery_gave_back_is_ready(
    locate: Locate, broker: Broker, consume: Consume, queue: Queue
) -> None:
    message = make(queue.name)
    broker.publish([message])
    consumer = consume()
    end(consumer, take(consumer, 1)[0], Action.REQUEUE, count=True)
    consumer.close()
    wait_for(lambda: locate(message.id) == "ready")


def test_relatives_are_not_mistaken_for_the_task(locate: Locate, broker: Broker, queue: Queue) -> None:
    absent = new_id()
    relations = {"root_id": absent, "parent_id": absent, "stamps": {"id": absent}}
    broker.publish([make(queue.name, extra=relations), make(queue.name, correlation_id=absent)])
    assert locate(absent) is None


@pytest.mark.parametrize("task_id", ["ä ö", 'a"b\\c', "%", "x" * 200])
def test_ids_of_the_users_own(locate: Locate, broker: Broker, queue: Queue, task_id: str) -> None:
    assert locate(task_id) is None
    broker.publish([make(queue.name, id=task_id)])
    assert locate(task_id) == "ready"


def test_in_long_and_in_several_queues(
    locate: Locate, broker: Broker, queue: Queue, new_queue: Callable[..., Queue]
) -> None:
    messages = [*many(queue.name, 2500), *many(new_queue().name, 5, eta=time.time() + 3600)]
    broker.publish(messages)
    assert [locate(messages[at].id) for at in (0, 999, 1000, 1500, 2499)] == ["ready"] * 5
    assert [locate(message.id) for message in messages[2500:]] == ["delayed"] * 5
    assert locate(new_id()) is None


def test_long_lists_of_delayed_parked_and_dead(locate: Locate, broker: Broker, consume: Consume, queue: Queue) -> None:
    """More than fit on a page of a search."""
    delayed = many(queue.name, 1100, eta=time.time() + 3600)
    broker.publish([*delayed, *many(queue.name, 2200)])
    consumer = consume()
    taken = take(consumer, 2200)
    for delivery in taken[::2]:
        end(consumer, delivery, Action.PARK)
    for delivery in taken[1::2]:
        end(consumer, delivery, Action.DEAD_LETTER)
    assert [locate(delayed[at].id) for at in (0, -1)] == ["delayed"] * 2
    assert [locate(taken[at].message.id) for at in (0, -2)] == ["parked"] * 2
    assert [locate(taken[at].message.id) for at in (1, -1)] == ["dead"] * 2


def test_nothing_moves_when_it_is_located(locate: Locate, broker: Broker, consume: Consume, queue: Queue) -> None:
    messages = many(queue.name, 3)
    broker.publish(messages)
    for message in messages:
        locate(message.id)
    taken = take(consume(), 3)
    assert [delivery.message.id for delivery in taken] == [message.id for message in messages]
    assert {(delivery.deliveries, delivery.message.redelivered) for delivery in taken} == {(0, False)}


def test_a_system_that_cannot_says_so(broker: Broker, features: Features, driver: Driver) -> None:
    if features.locates:
        pytest.skip("this one can")
    with pytest.raises(BrokerError, match="cannot be looked into"):
        broker.locate(new_id())
