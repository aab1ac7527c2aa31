"""Life: forks, and that nothing is left behind: no descriptors, threads, connections, keys or rows."""

from __future__ import annotations

import secrets
import threading
from pathlib import Path

import pytest

from conformance.breaking import in_fork, open_descriptors
from conformance.broker.conftest import Connect, Consume
from conformance.drivers import Driver
from conformance.messages import ack, end, make, many, numbers, take
from conformance.waiting import Running
from proxy import TCPProxy
from umbel.brokers import open_broker
from umbel.brokers.base import Action, Broker, Features, Note
from umbel.queues import Queue
from workers import wait_for


def test_forked_child_uses_the_broker_while_the_parent_goes_on(
    broker: Broker, consume: Consume, queue: Queue, features: Features
) -> None:
    consumer = consume()
    broker.publish([make(queue.name, b"0")])
    ack(consumer, take(consumer, 1))
    waiting = Running(lambda: take(consumer, 6, 30.0))

    def child() -> None:
        broker.after_fork()
        broker.publish(many(queue.name, 3))
        if not features.shared:
            assert broker.size(queue.name).ready == 3
        broker.close()

    assert in_fork(child) == 0
    broker.publish([make(queue.name, str(n).encode()) for n in range(10, 13 if features.shared else 16)])
    expected = [0, 1, 2, 10, 11, 12] if features.shared else [10, 11, 12, 13, 14, 15]
    taken = waiting.result()
    assert sorted(numbers(taken)) == expected
    ack(consumer, taken)


def test_forked_child_consumes(broker: Broker, consume: Consume, queue: Queue) -> None:
    broker.publish([make(queue.name, b"0")])
    parents = consume()
    held = take(parents, 1)

    def child() -> None:
        broker.after_fork()
        broker.declare(queue)
        broker.publish([make(queue.name, b"1")])
        with broker.consumer([queue], name="child@test", lease=60.0) as consumer:
            taken = take(consumer, 1)
            assert numbers(taken) == [1]
            ack(consumer, taken)
        broker.close()

    assert in_fork(child) == 0
    ack(parents, held)


def cycle(url: str, driver: Driver) -> None:
    """Everything a broker does, in its good order, on a queue that is deleted afterwards."""
    broker = open_broker(url)
    queue = Queue(f"cycle-{secrets.token_hex(6)}", **driver.queue)
    broker.declare(queue)
    broker.publish([*many(queue.name, 8), make(queue.name, eta=1.0)])
    with broker.consumer([queue], name=f"{queue.name}@test", lease=60.0) as consumer:
        assert consumer.renew()
        taken = take(consumer, 9)
        end(consumer, taken[0], Action.DEAD_LETTER)
        end(consumer, taken[1], Action.PARK)
        end(consumer, taken[2], Action.REQUEUE, delay=60.0)
        ack(consumer, taken[3:])
    listener = broker.listen(f"fan-{queue.name}")
    broker.broadcast(f"fan-{queue.name}", Note(b"note"))
    assert listener.receive(5.0)
    listener.close()
    lock = broker.lock(queue.name, 30.0)
    assert lock.acquire()
    lock.release()
    broker.delete(queue.name)
    broker.close()


@pytest.mark.skipif(not Path("/proc/self/fd").exists(), reason="counts descriptors in /proc")
def test_closing_leaves_no_descriptors_and_threads(url: str, driver: Driver) -> None:
    cycle(url, driver)
    before = open_descriptors(), threading.active_count()
    for _ in range(5):
        cycle(url, driver)
    wait_for(lambda: open_descriptors() <= before[0] and threading.active_count() <= before[1])


def test_closing_leaves_no_connections(proxy: TCPProxy, url: str, driver: Driver) -> None:
    cycle(proxy.url(url), driver)
    assert proxy.accepted
    wait_for(lambda: proxy.connections == 0)


def test_deleted_queue_leaves_nothing_in_the_system(url: str, driver: Driver) -> None:
    cycle(url, driver)
    before = driver.hooks.objects(url)
    if before is None:
        pytest.skip("what the system stores cannot be counted")
    for _ in range(3):
        cycle(url, driver)
    after = driver.hooks.objects(url)
    assert after is not None
    assert len(after) <= len(before), after - before


def test_settled_work_leaves_nothing_in_the_system(
    connect: Connect, consume: Consume, queue: Queue, url: str, driver: Driver
) -> None:
    broker = connect()

    def work() -> set[object] | None:
        broker.publish(many(queue.name, 100))
        with consume(broker=broker) as consumer:
            ack(consumer, take(consumer, 100))
        return driver.hooks.objects(url)

    before = work()
    if before is None:
        pytest.skip("what the system stores cannot be counted")
    after = work()
    assert after is not None
    assert len(after) <= len(before), after - before
