"""The fixtures of the broker suite: each test runs once for every driver in ``drivers.BROKERS``."""

from __future__ import annotations

import secrets
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from conformance.drivers import BROKERS, Driver
from conformance.waiting import Child, children
from umbel.brokers import open_broker
from umbel.brokers.base import Broker, Consumer, Features, Options
from umbel.queues import Queue

Connect = Callable[..., Broker]
Consume = Callable[..., Consumer]


@pytest.fixture(params=BROKERS, ids=lambda driver: driver.name)
def driver(request: pytest.FixtureRequest) -> Driver:
    return request.param


@pytest.fixture
def connect(url: str) -> Iterator[Connect]:
    """A factory of brokers, closed after the test: ``connect(url=…, **options)``."""
    opened: list[Broker] = []

    def make(url: str = url, **options: Any) -> Broker:
        broker = open_broker(url, Options(**options))
        opened.append(broker)
        return broker

    yield make
    for broker in opened:
        broker.close()


@pytest.fixture
def broker(connect: Connect) -> Broker:
    return connect()


@pytest.fixture
def features(broker: Broker) -> Features:
    return broker.features


@pytest.fixture
def new_queue(driver: Driver, broker: Broker) -> Iterator[Callable[..., Queue]]:
    """A factory of declared queues of random names, deleted after the test."""
    made: list[Queue] = []

    def make(prefix: str = "q", **fields: Any) -> Queue:
        queue = Queue(f"{prefix}-{secrets.token_hex(6)}", **{**driver.queue, **fields})
        broker.declare(queue)
        made.append(queue)
        return queue

    yield make
    for queue in made:
        broker.delete(queue.name)


@pytest.fixture
def queue(new_queue: Callable[..., Queue]) -> Queue:
    return new_queue()


@pytest.fixture
def consume(broker: Broker, queue: Queue) -> Iterator[Consume]:
    """A factory of consumers, closed after the test. Their lease outlasts a test unless one is given."""
    opened: list[Consumer] = []

    def make(*queues: Queue, broker: Broker = broker, lease: float = 60.0, window: int = 0) -> Consumer:
        name = f"worker-{secrets.token_hex(4)}@test"
        consumer = broker.consumer(queues or (queue,), name=name, lease=lease, window=window)
        opened.append(consumer)
        return consumer

    yield make
    for consumer in opened:
        consumer.close()


@pytest.fixture
def consumer(consume: Consume) -> Consumer:
    return consume()


@pytest.fixture
def child(url: str, driver: Driver, features: Features) -> Iterator[Callable[..., Child]]:
    """A factory of processes that run ``conformance/broker/child.py``, killed after the test."""
    if not features.shared:
        pytest.skip("other processes do not share this broker")
    with children("conformance.broker.child", url=url, fields=dict(driver.queue)) as start:
        yield lambda act, queue, **arguments: start(act=act, queue=queue.name, **arguments)
