"""Keeping: what a settlement sends may stay with the consumer that sends it, held from that very step on."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from conformance.breaking import cut_during
from conformance.broker.conftest import Connect, Consume
from conformance.messages import ack, drain, make, many, persist, take, take_none
from proxy import Direction, TCPProxy
from umbel.brokers.base import Action, Broker, Consumer, Delivery, Settlement
from umbel.message import Message
from umbel.queues import Queue


def keep(consumer: Consumer, message: Message) -> Delivery:
    kept = consumer.keep(message)
    if kept is None:
        pytest.skip("this system does not publish and hold in one step")
    return kept


def following(consumer: Consumer, held: Delivery, message: Message) -> Settlement:
    """The end of ``held``, with ``message`` sent and kept."""
    kept = keep(consumer, message)
    return Settlement(held, publish=(kept.message,), keep=(kept,))


def test_what_is_kept_is_held_and_nobody_else_sees_it(broker: Broker, consume: Consume, queue: Queue) -> None:
    broker.publish([make(queue.name, b"1")])
    first, second = consume(), consume()
    (held,) = take(first, 1)
    settlement = following(first, held, make(queue.name, b"2", priority=6))
    (kept,) = settlement.keep
    assert first.settle([settlement]).stale == []
    assert broker.size(queue.name).held == 1
    take_none(second)
    take_none(first)
    assert (kept.queue, kept.message.body, kept.deliveries) == (queue.name, b"2", 0)
    assert first.settle([Settlement(kept)]).stale == []
    first.close()
    take_none(second)


def test_what_is_kept_is_what_would_have_been_delivered(broker: Broker, consumer: Consumer, queue: Queue) -> None:
    broker.publish([make(queue.name)])
    (held,) = take(consumer, 1)
    message = make(queue.name, b"3", priority=3, reply_to="someone")
    settlement = following(consumer, held, message)
    consumer.settle([settlement])
    (kept,) = settlement.keep
    consumer.settle([Settlement(kept, Action.REQUEUE)])
    (again,) = take(consumer, 1)
    assert again.message == kept.message
    assert again.queue == kept.queue
    ack(consumer, [again])


def test_several_are_kept_or_sent_each_as_said(broker: Broker, consume: Consume, queue: Queue) -> None:
    broker.publish([make(queue.name)])
    consumer = consume()
    (held,) = take(consumer, 1)
    one, two = keep(consumer, make(queue.name, b"1")), keep(consumer, make(queue.name, b"2"))
    sent = make(queue.name, b"3")
    consumer.settle([Settlement(held, publish=(one.message, sent, two.message), keep=(one, two))])
    assert [delivery.message.id for delivery in drain(consume())] == [sent.id]
    assert consumer.settle([Settlement(one), Settlement(two)]).stale == []


def test_what_is_kept_may_end_in_the_step_that_holds_it(broker: Broker, consume: Consume, queue: Queue) -> None:
    broker.publish([make(queue.name)])
    consumer = consume()
    (held,) = take(consumer, 1)
    settlement = following(consumer, held, make(queue.name))
    assert consumer.settle([settlement, Settlement(settlement.keep[0])]).stale == []
    consumer.close()
    take_none(consume())


def test_what_is_kept_goes_back_with_all_else_that_is_held(broker: Broker, consume: Consume, queue: Queue) -> None:
    broker.publish([make(queue.name)])
    consumer = consume()
    (held,) = take(consumer, 1)
    settlement = following(consumer, held, make(queue.name, b"4"))
    consumer.settle([settlement])
    consumer.close()
    (again,) = drain(consume())
    assert again.message.body == b"4"


def test_a_lost_hold_keeps_nothing(broker: Broker, consume: Consume, queue: Queue) -> None:
    broker.publish([make(queue.name, b"5")])
    consumer = consume()
    (held,) = take(consumer, 1)
    consumer.settle([Settlement(held, Action.REQUEUE)])
    settlement = following(consumer, held, make(queue.name, b"6"))
    assert consumer.settle([settlement]).stale == [settlement]
    assert consumer.settle([Settlement(settlement.keep[0])]).stale != []
    consumer.close()
    assert [delivery.message.body for delivery in drain(consume())] == [b"5"]


def test_another_queue_keeps_nothing(broker: Broker, consumer: Consumer, new_queue: Callable[..., Queue]) -> None:
    assert consumer.keep(make(new_queue().name)) is None


@pytest.mark.parametrize(("direction", "size"), [("up", 1), ("up", 2_000), ("down", 1)])
def test_cut_while_keeping(
    connect: Connect,
    consume: Consume,
    url: str,
    proxy: TCPProxy,
    queue: Queue,
    direction: Direction,
    size: int,
) -> None:
    """Whether the step was done is found out before it is repeated: all are held once, and none comes as new."""
    distant = connect(proxy.url(url))
    distant.publish(many(queue.name, 20))
    consumer = consume(broker=distant)
    settlements = [following(consumer, held, make(queue.name, held.message.body)) for held in take(consumer, 20)]
    cut_during(lambda: consumer.settle(settlements), proxy, direction, size)
    persist(consumer.renew)
    take_none(consumer)
    assert connect().size(queue.name).held == 20
    kept = [delivery for settlement in settlements for delivery in settlement.keep]
    assert persist(lambda: consumer.settle([Settlement(delivery) for delivery in kept])).stale == []
    assert drain(consume()) == []
