"""Leases: the work of the dead is taken over in time, that of the living never, and who lost it has no say."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack

import pytest

from conformance.broker.conftest import Connect, Consume
from conformance.drivers import Driver
from conformance.messages import ack, make, many, numbers, persist, take, take_none
from conformance.waiting import Child, Running, every
from proxy import TCPProxy
from umbel.backends import open_backend
from umbel.backends.base import Meta
from umbel.brokers.base import Broker, Consumer, Features, Settlement
from umbel.errors import UmbelError
from umbel.queues import Queue
from workers import wait_for

LEASE = 1.5

pytestmark = [pytest.mark.calm, pytest.mark.timed(LEASE / 3)]


@pytest.fixture
def live(consume: Consume) -> Iterator[Callable[..., Consumer]]:
    """A factory of consumers whose lease is renewed as a worker does it."""
    with ExitStack() as renewing:

        def make(broker: Broker | None = None) -> Consumer:
            consumer = consume(lease=LEASE) if broker is None else consume(broker=broker, lease=LEASE)
            renewing.enter_context(every(LEASE / 5, consumer.renew))
            return consumer

        yield make


def test_work_of_a_killed_process_is_taken_over(
    broker: Broker,
    queue: Queue,
    child: Callable[..., Child],
    live: Callable[..., Consumer],
    driver: Driver,
) -> None:
    broker.publish(many(queue.name, 5))
    victim = child("hold", queue, count=5, lease=LEASE)
    assert len(victim.next()) == 5
    survivor = live()
    take_none(survivor, 0.1)
    victim.kill()
    died = time.monotonic()
    taken = take(survivor, 5)
    assert time.monotonic() - died <= LEASE + 1.0
    assert numbers(taken) == [0, 1, 2, 3, 4]
    assert [d.deliveries for d in taken] == [1] * 5 or (
        not driver.counts_deliveries and all(d.deliveries for d in taken)
    )
    ack(survivor, taken)


def test_work_of_a_slow_process_is_left_alone(
    broker: Broker, queue: Queue, child: Callable[..., Child], live: Callable[..., Consumer]
) -> None:
    broker.publish(many(queue.name, 3))
    assert len(child("hold", queue, count=3, lease=LEASE).next()) == 3
    take_none(live(), 3 * LEASE)


def test_work_of_a_slow_consumer_is_left_alone(broker: Broker, queue: Queue, live: Callable[..., Consumer]) -> None:
    broker.publish(many(queue.name, 3))
    slow, other = live(), live()
    held = take(slow, 3)
    take_none(other, 3 * LEASE)
    ack(slow, held)


def test_renewing_tells_that_the_lease_is_kept(consume: Consume) -> None:
    consumer = consume()
    assert consumer.renew()
    assert consumer.renew()


@pytest.fixture
def lost(
    broker: Broker, consume: Consume, queue: Queue, live: Callable[..., Consumer], features: Features
) -> tuple[Consumer, list[Settlement], Consumer]:
    """A consumer that slept over the end of its lease, what it would settle, and who has its work now."""
    if not features.leases:
        pytest.skip("holds hang on the session, not on a lease")
    broker.publish(many(queue.name, 2))
    sleeper = consume(lease=LEASE)
    held = take(sleeper, 2)
    heir = live()
    slept = time.monotonic()
    taken = take(heir, 2)
    assert time.monotonic() - slept <= LEASE + 1.0
    assert [(int(d.message.body), d.deliveries) for d in taken] == [(0, 1), (1, 1)]
    ack(heir, taken[:1])
    return sleeper, [Settlement(delivery) for delivery in held], heir


def test_stale_settlement_is_refused(lost: tuple[Consumer, list[Settlement], Consumer], consume: Consume) -> None:
    sleeper, settlements, heir = lost
    assert sleeper.settle(settlements).stale == settlements
    heir.close()
    assert numbers(take(consume(), 1)) == [1]


def test_follow_ups_of_a_stale_settlement_are_not_sent(
    lost: tuple[Consumer, list[Settlement], Consumer], consume: Consume, new_queue: Callable[..., Queue]
) -> None:
    sleeper, settlements, _ = lost
    after = new_queue()
    for settlement in settlements:
        settlement.publish = (make(after.name),)
    assert len(sleeper.settle(settlements).stale) == 2
    take_none(consume(after))


def test_result_of_a_stale_settlement_is_not_stored(
    lost: tuple[Consumer, list[Settlement], Consumer], broker: Broker, url: str
) -> None:
    try:
        backend = open_backend(url)
    except (ModuleNotFoundError, UmbelError) as error:
        pytest.skip(f"no results are stored in this system: {error}")
    if not broker.stores_results_of(backend):
        pytest.skip("results are stored apart from settling")
    sleeper, settlements, _ = lost
    ids = [settlement.delivery.message.id for settlement in settlements]
    for settlement, id in zip(settlements, ids, strict=True):
        settlement.result = backend.encode(Meta(task_id=id, status="SUCCESS", result="stale"))
    assert len(sleeper.settle(settlements).stale) == 2
    assert backend.get(ids) == {}
    backend.close()


def test_lost_lease_is_told_and_a_new_one_begins(
    lost: tuple[Consumer, list[Settlement], Consumer], broker: Broker, queue: Queue
) -> None:
    sleeper, settlements, heir = lost
    heir.close()
    assert not sleeper.renew()
    assert sleeper.renew()
    taken = take(sleeper, 1)
    assert numbers(taken) == [1]
    assert len(sleeper.settle(settlements).stale) == 2
    ack(sleeper, taken)
    broker.publish([make(queue.name, b"9")])
    assert numbers(take(sleeper, 1)) == [9]


def test_hold_survives_a_lost_connection(
    connect: Connect, consume: Consume, queue: Queue, proxy: TCPProxy, url: str, features: Features
) -> None:
    if not features.survives_reconnect:
        pytest.skip("the system gives up holds with the connection")
    broker = connect(proxy.url(url))
    broker.publish(many(queue.name, 3))
    consumer = consume(broker=broker)
    held = take(consumer, 3)
    proxy.cut()
    take_none(consume(), 0.5)
    assert persist(lambda: consumer.settle([Settlement(delivery) for delivery in held])).stale == []


def test_hold_ends_with_the_session(
    connect: Connect,
    consume: Consume,
    queue: Queue,
    new_queue: Callable[..., Queue],
    proxy: TCPProxy,
    url: str,
    features: Features,
    driver: Driver,
) -> None:
    if features.survives_reconnect:
        pytest.skip("holds outlast the connection")
    after = new_queue()
    broker = connect(proxy.url(url))
    broker.publish(many(queue.name, 3))
    consumer = consume(broker=broker)
    held = take(consumer, 3)
    proxy.refuse()
    proxy.cut()
    heir = consume()
    taken = take(heir, 3)
    assert numbers(taken) == [0, 1, 2]
    assert all(delivery.deliveries for delivery in taken)
    proxy.heal()
    settlements = [Settlement(delivery, publish=(make(after.name),)) for delivery in held]
    assert len(persist(lambda: consumer.settle(settlements)).stale) == 3
    take_none(consume(after))
    ack(heir, taken)


def test_claimed_but_never_told(
    connect: Connect, consume: Consume, queue: Queue, proxy: TCPProxy, url: str, features: Features
) -> None:
    """The answer to a claim is lost with the connection: its messages come all the same, and soon."""
    consumer = consume(broker=connect(proxy.url(url)), lease=60.0)
    consumer.receive(1, 0.0)
    connect().publish(many(queue.name, 20))
    proxy.cut_after(1, "down")
    accepted = proxy.accepted
    seen: set[int] = set()
    deliveries = 0
    receiving = Running(lambda: numbers(persist(lambda: consumer.receive(20, 5.0))))
    wait_for(lambda: proxy.accepted > accepted or proxy.connections == 0 or receiving.done)
    proxy.heal()
    batch = receiving.result()
    deadline = time.monotonic() + 15
    while batch or len(seen) < 20:
        assert time.monotonic() < deadline, f"only {sorted(seen)} came"
        seen.update(batch)
        deliveries += len(batch)
        batch = numbers(persist(lambda: consumer.receive(20, 0.5)))
    assert seen == set(range(20))
    assert deliveries == 20 or not features.survives_reconnect
