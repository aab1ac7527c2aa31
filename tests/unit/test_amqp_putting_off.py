"""RabbitMQ: deliveries that are put off cost the broker little, keep nobody waiting, and are never lost."""

from __future__ import annotations

import secrets
import threading
import time
from collections.abc import Iterator, Sequence

import pytest

from conformance.messages import end, make, many, numbers, take, take_none
from proxy import TCPProxy
from umbel.brokers.amqp import AMQPBroker
from umbel.brokers.amqp.posts import Post
from umbel.brokers.amqp.unproven import Unproven
from umbel.brokers.base import Action, Delivery, Settlement
from umbel.errors import UmbelError
from umbel.queues import Queue
from workers import wait_for


class WatchedBroker(AMQPBroker):
    """Counts what its consumers send, and sends nothing while ``open`` is not set."""

    def __init__(self, url: str) -> None:
        super().__init__(url)
        self.sent = 0
        self.open = threading.Event()
        self.open.set()

    def send(self, posts: Sequence[Post]) -> list[UmbelError | None]:
        assert self.open.wait(30)
        self.sent += len(posts)
        return super().send(posts)


@pytest.fixture
def broker(rabbitmq_url: str) -> Iterator[WatchedBroker]:
    opened = WatchedBroker(rabbitmq_url)
    yield opened
    opened.open.set()
    opened.close()


@pytest.fixture
def queue(broker: AMQPBroker) -> Iterator[Queue]:
    made = Queue(f"q-{secrets.token_hex(6)}")
    broker.declare(made)
    yield made
    broker.delete(made.name)


def put_off(deliveries: Sequence[Delivery], delay: float) -> list[Settlement]:
    return [Settlement(delivery, Action.REQUEUE, delay=delay) for delivery in deliveries]


def test_what_is_put_off_for_moments_is_not_sent_each_time(broker: WatchedBroker, queue: Queue) -> None:
    """As those in front of a line are, ten times while one task runs."""
    broker.publish(many(queue.name, 20))
    with broker.consumer([queue], name="w@test") as consumer:
        for _ in range(5):
            taken = take(consumer, 20)
            assert sorted(numbers(taken)) == list(range(20))
            assert {delivery.deliveries for delivery in taken} == {0}
            assert consumer.settle(put_off(taken, 0.05)).stale == []
        assert broker.sent < 5 * 20 / 2
        consumer.settle([Settlement(delivery) for delivery in take(consumer, 20)])


def test_nobody_waits_until_what_is_put_off_for_long_was_sent(broker: WatchedBroker, queue: Queue) -> None:
    broker.publish([make(queue.name, b"0"), make(queue.name, b"1")])
    with broker.consumer([queue], name="w@test") as consumer:
        first, second = take(consumer, 2)
        broker.open.clear()
        settled = consumer.settle([*put_off([first], 60.0), Settlement(second)])
        assert settled.stale == []
        broker.open.set()
        wait_for(lambda: broker.sent)
        take_none(consumer)


def test_what_is_due_and_not_taken_goes_to_others(broker: WatchedBroker, queue: Queue) -> None:
    broker.publish(many(queue.name, 5))
    with broker.consumer([queue], name="busy@test") as busy, broker.consumer([queue], name="idle@test") as idle:
        taken = take(busy, 5)
        busy.settle(put_off(taken, 0.05))
        assert sorted(numbers(take(idle, 5))) == list(range(5))
        assert busy.settle([Settlement(delivery) for delivery in taken]).stale


def test_who_is_put_off_for_moments_for_long_goes_to_others(broker: WatchedBroker, queue: Queue) -> None:
    """Who asks again and again may have no lane for it, and another worker one."""
    broker.publish([make(queue.name)])
    with broker.consumer([queue], name="w@test") as consumer:

        def again() -> int:
            consumer.settle(put_off(take(consumer, 1), 0.1))
            return broker.sent

        wait_for(again)


@pytest.mark.parametrize("delay", [0.5, 60.0])
def test_closing_sends_what_is_put_off_with_the_time_that_is_left(
    broker: WatchedBroker, queue: Queue, delay: float
) -> None:
    broker.publish([make(queue.name)])
    with broker.consumer([queue], name="w@test") as consumer:
        (taken,) = take(consumer, 1)
        began = time.monotonic()
        end(consumer, taken, Action.REQUEUE, delay=delay)
    with broker.consumer([queue], name="next@test") as other:
        if delay > 1:
            take_none(other)
        else:
            take(other, 1)
            assert time.monotonic() - began >= delay - 0.05


def test_what_is_put_off_comes_back_when_the_connection_breaks(
    broker: WatchedBroker, queue: Queue, rabbitmq_url: str
) -> None:
    broker.publish(many(queue.name, 5))
    with TCPProxy.to(rabbitmq_url) as proxy:
        through = AMQPBroker(proxy.url(rabbitmq_url))
        with through.consumer([queue], name="w@test") as consumer:
            consumer.settle(put_off(take(consumer, 5), 20.0))
            proxy.cut()
            assert sorted(numbers(take(consumer, 5, patient=True))) == list(range(5))
        through.close()


def test_an_acknowledgement_that_was_lost_with_the_connection_is_known() -> None:
    acknowledged, seen, sent_back = (Delivery(None, "q", make("q"), 0) for _ in range(3))
    unproven = Unproven()
    unproven.add(1, 0, [Settlement(seen)], [])
    unproven.add(2, 1, [Settlement(acknowledged), Settlement(sent_back, Action.REQUEUE)], [])
    unproven.lose(1)
    again = [Delivery(None, "q", each.message, 1) for each in (acknowledged, seen, sent_back)]
    copy = Delivery(None, "q", acknowledged.message, 0)
    assert unproven.settled_before([copy]) == []
    assert unproven.settled_before(again) == again[:1]
    assert unproven.settled_before(again) == []
