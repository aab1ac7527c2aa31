"""Administration: counting, looking, emptying, and what is done about dead, parked and unreadable messages."""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable

import pytest

from conformance.broker.conftest import Connect, Consume
from conformance.drivers import Driver
from conformance.messages import ack, end, make, many, numbers, take, take_none
from umbel.brokers.base import Action, Broker, Consumer, DeadLetter, QueueSize
from umbel.message import decode_headers
from umbel.queues import Queue
from workers import wait_for


def counted(broker: Broker, queue: Queue, **expected: int) -> None:
    """Wait until the sizes are as expected; -1 is what the system cannot tell."""

    def right() -> bool:
        size = broker.size(queue.name)
        return all(getattr(size, name) in (count, -1) for name, count in expected.items())

    wait_for(right, 5.0, f"{expected}, but {broker.size(queue.name)}")


def bury(consumer: Consumer, count: int) -> None:
    for delivery in take(consumer, count):
        end(consumer, delivery, Action.DEAD_LETTER, reason=f"reason {delivery.message.body.decode()}")


def test_size_counts_by_where_messages_stand(broker: Broker, consume: Consume, queue: Queue) -> None:
    broker.publish([make(queue.name, str(n).encode(), task=f"t.{n}") for n in range(8)])
    counted(broker, queue, ready=8, delayed=0, held=0, parked=0, dead=0)
    assert broker.size(queue.name).ready == 8, "every system can count what is ready"
    broker.publish(many(queue.name, 2, eta=time.time() + 3600))
    consumer = consume(window=3)
    held = take(consumer, 3)
    counted(broker, queue, ready=5, delayed=2, held=3)
    end(consumer, held[0], Action.PARK)
    end(consumer, held[1], Action.DEAD_LETTER, reason="no")
    consumer.close()
    counted(broker, queue, ready=6, delayed=2, held=0, parked=1, dead=1)


def test_size_of_a_queue_that_does_not_exist(broker: Broker) -> None:
    assert broker.size(f"none-{secrets.token_hex(6)}") == QueueSize()


def test_asking_for_a_queue_does_not_make_it(broker: Broker) -> None:
    name = f"none-{secrets.token_hex(6)}"
    broker.size(name)
    broker.peek(name)
    broker.purge(name)
    broker.dead_letters(name)
    broker.replay(name)
    broker.parked(name)
    broker.unpark(name, ["task"])
    assert name not in broker.queues()


def test_declared_queue_is_listed(broker: Broker, new_queue: Callable[..., Queue]) -> None:
    queues = [new_queue() for _ in range(3)]
    assert {queue.name for queue in queues} <= set(broker.queues())


def test_declaring_twice_is_no_error(broker: Broker, queue: Queue) -> None:
    broker.publish([make(queue.name)])
    broker.declare(queue)
    counted(broker, queue, ready=1)


def test_peek_leaves_messages_where_they_are(broker: Broker, consume: Consume, queue: Queue) -> None:
    messages = many(queue.name, 10)
    broker.publish(messages)
    assert numbers(broker.peek(queue.name, 4)) == [0, 1, 2, 3]
    assert [message.id for message in broker.peek(queue.name, 100)] == [message.id for message in messages]
    assert decode_headers(broker.peek(queue.name, 1)[0].headers) == decode_headers(messages[0].headers)
    taken = take(consume(), 10)
    assert numbers(taken) == list(range(10))


def test_peek_at_nothing(broker: Broker, queue: Queue) -> None:
    assert broker.peek(queue.name) == []
    assert broker.peek(f"none-{secrets.token_hex(6)}") == []


def test_purge_removes_ready_and_delayed(broker: Broker, consume: Consume, queue: Queue) -> None:
    broker.publish(many(queue.name, 10))
    consumer = consume(window=2)
    held = take(consumer, 2)
    broker.publish(many(queue.name, 3, eta=time.time() + 1.0))
    counted(broker, queue, ready=8, delayed=3)
    tells_delayed = broker.size(queue.name).delayed >= 0
    purged = broker.purge(queue.name)
    assert purged == 11 or (purged == 8 and not tells_delayed)
    counted(broker, queue, ready=0, delayed=0)
    assert broker.purge(queue.name) == 0
    ack(consumer, held)
    if purged == 11:
        take_none(consumer, 1.3)


def test_purge_of_a_queue_that_does_not_exist(broker: Broker) -> None:
    assert broker.purge(f"none-{secrets.token_hex(6)}") == 0


def test_purge_leaves_other_queues_alone(broker: Broker, queue: Queue, new_queue: Callable[..., Queue]) -> None:
    other = new_queue()
    broker.publish([make(queue.name), make(other.name)])
    assert broker.purge(queue.name) == 1
    counted(broker, other, ready=1)


def test_delete_removes_everything(broker: Broker, consume: Consume, queue: Queue) -> None:
    broker.publish([make(queue.name, str(n).encode(), task="t") for n in range(4)])
    consumer = consume()
    held = take(consumer, 2)
    end(consumer, held[0], Action.PARK)
    end(consumer, held[1], Action.DEAD_LETTER)
    broker.publish([make(queue.name, eta=time.time() + 3600)])
    consumer.close()
    broker.delete(queue.name)
    broker.delete(queue.name)
    assert queue.name not in broker.queues()
    assert broker.size(queue.name) == QueueSize()
    broker.declare(queue)
    counted(broker, queue, ready=0, delayed=0, parked=0, dead=0)
    assert broker.dead_letters(queue.name) == []
    assert broker.parked(queue.name) == {}


def letters(broker: Broker, queue: Queue, count: int) -> list[DeadLetter]:
    return wait_for(lambda: found if len(found := broker.dead_letters(queue.name)) == count else [])


def test_dead_letters_oldest_first(broker: Broker, consumer: Consumer, queue: Queue) -> None:
    broker.publish(many(queue.name, 5))
    bury(consumer, 5)
    found = letters(broker, queue, 5)
    assert numbers([letter.message for letter in found]) == [0, 1, 2, 3, 4]
    assert [letter.reason for letter in found] == [f"reason {n}" for n in range(5)]
    assert len({letter.id for letter in found}) == 5
    assert numbers([letter.message for letter in broker.dead_letters(queue.name, 2)]) == [0, 1]
    assert [letter.id for letter in broker.dead_letters(queue.name)] == [letter.id for letter in found]


def test_dead_letters_are_kept_for_other_brokers(
    broker: Broker, consumer: Consumer, connect: Connect, queue: Queue
) -> None:
    broker.publish(many(queue.name, 1))
    bury(consumer, 1)
    assert len(letters(connect(), queue, 1)) == 1


def test_dead_letter_counts_its_deliveries(broker: Broker, consumer: Consumer, queue: Queue, driver: Driver) -> None:
    broker.publish(many(queue.name, 1))
    for _ in range(2):
        end(consumer, take(consumer, 1)[0], Action.REQUEUE, count=True)
    bury(consumer, 1)
    (letter,) = letters(broker, queue, 1)
    assert letter.deliveries == 2 or (letter.deliveries and not driver.counts_deliveries)


def test_replay_all(broker: Broker, consumer: Consumer, queue: Queue) -> None:
    broker.publish(many(queue.name, 3))
    for delivery in take(consumer, 3):
        end(consumer, delivery, Action.REQUEUE, count=True)
    bury(consumer, 3)
    letters(broker, queue, 3)
    assert broker.replay(queue.name) == 3
    taken = take(consumer, 3)
    assert sorted(numbers(taken)) == [0, 1, 2]
    assert [delivery.deliveries for delivery in taken] == [0, 0, 0]
    ack(consumer, taken)
    assert broker.dead_letters(queue.name) == []
    assert broker.replay(queue.name) == 0


def test_replay_some(broker: Broker, consumer: Consumer, queue: Queue) -> None:
    broker.publish(many(queue.name, 4))
    bury(consumer, 4)
    found = letters(broker, queue, 4)
    assert broker.replay(queue.name, [found[1].id, found[3].id, "unknown"]) == 2
    assert sorted(numbers(take(consumer, 2))) == [1, 3]
    assert numbers([letter.message for letter in letters(broker, queue, 2)]) == [0, 2]
    assert broker.replay(queue.name, []) == 0


def test_replayed_message_is_whole(broker: Broker, consumer: Consumer, queue: Queue) -> None:
    sent = make(queue.name, b"\x00\xff", extra={"x-tenant": "ä"}, reply_to="r")
    broker.publish([sent])
    end(consumer, take(consumer, 1)[0], Action.DEAD_LETTER, reason="r")
    letters(broker, queue, 1)
    broker.replay(queue.name)
    got = take(consumer, 1)[0].message
    assert (got.id, got.task, got.body, got.reply_to, got.queue) == (sent.id, sent.task, sent.body, "r", queue.name)
    assert got.headers == sent.headers


def test_purge_dead(broker: Broker, consumer: Consumer, queue: Queue) -> None:
    broker.publish(many(queue.name, 4))
    bury(consumer, 4)
    found = letters(broker, queue, 4)
    assert broker.purge_dead(queue.name, [found[0].id, "unknown"]) == 1
    assert numbers([letter.message for letter in letters(broker, queue, 3)]) == [1, 2, 3]
    assert broker.purge_dead(queue.name) == 3
    assert broker.dead_letters(queue.name) == []
    assert broker.purge_dead(queue.name) == 0
    take_none(consumer)


def test_old_dead_letters_expire(connect: Connect, consume: Consume, queue: Queue) -> None:
    broker = connect(dead_letter_expires=1.0)
    broker.publish(many(queue.name, 1))
    bury(consume(broker=broker), 1)
    letters(broker, queue, 1)
    wait_for(lambda: not broker.dead_letters(queue.name), 5.0)


def test_parked_messages_by_task(broker: Broker, consumer: Consumer, queue: Queue) -> None:
    tasks = ["a", "b", "a", "c", "a"]
    broker.publish([make(queue.name, str(n).encode(), task=task) for n, task in enumerate(tasks)])
    for delivery in take(consumer, 5):
        end(consumer, delivery, Action.PARK)
    wait_for(lambda: broker.parked(queue.name) == {"a": 3, "b": 1, "c": 1})
    assert broker.unpark(queue.name, ["a", "unknown"]) == 3
    taken = take(consumer, 3)
    assert numbers(taken) == [0, 2, 4]
    assert [delivery.deliveries for delivery in taken] == [0, 0, 0]
    wait_for(lambda: broker.parked(queue.name) == {"b": 1, "c": 1})
    assert broker.unpark(queue.name, ["b", "c"]) == 2
    assert sorted(numbers(take(consumer, 2))) == [1, 3]
    assert broker.unpark(queue.name, ["a", "b", "c"]) == 0


def test_nothing_parked(broker: Broker, queue: Queue) -> None:
    assert broker.parked(queue.name) == {}
    assert broker.parked(f"none-{secrets.token_hex(6)}") == {}
    assert broker.unpark(queue.name, ["a"]) == 0


@pytest.mark.parametrize("raw", [b"not json at all \xff\x00", b"{", b"[]", b"{}", b'{"body": 5}'])
def test_unreadable_message_is_delivered_with_its_fault(
    broker: Broker, consume: Consume, queue: Queue, url: str, driver: Driver, raw: bytes
) -> None:
    driver.hooks.inject(url, queue.name, raw)
    broker.publish([make(queue.name, b"1")])
    consumer = consume()
    taken = take(consumer, 2)
    (faulty,) = [delivery for delivery in taken if delivery.message.body != b"1"]
    if faulty.fault:
        assert raw in faulty.message.body or faulty.message.body in raw
    else:
        assert faulty.message.task == "", "what names no task may still be a message of another protocol"
    end(consumer, faulty, Action.DEAD_LETTER, reason=faulty.fault or "no task")
    (letter,) = letters(broker, queue, 1)
    assert letter.reason == (faulty.fault or "no task")
    assert letter.message.body == faulty.message.body
    ack(consumer, [delivery for delivery in taken if delivery is not faulty])
    assert broker.purge_dead(queue.name) == 1
