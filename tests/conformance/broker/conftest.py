"""The fixtures of the broker suite: each test runs once for every driver in ``drivers.BROKERS``."""

from __future__ import annotations

import secrets
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from conformance import places
from conformance.drivers import BROKERS, Driver
from conformance.waiting import Child
from proxy import TCPProxy
from services import PrivateServer
from umbel.brokers import open_broker
from umbel.brokers.base import Broker, Consumer, Features, Options
from umbel.queues import Queue

Connect = Callable[..., Broker]
Consume = Callable[..., Consumer]


@pytest.fixture(params=BROKERS, ids=lambda driver: driver.name)
def driver(request: pytest.FixtureRequest) -> Driver:
    return request.param


@pytest.fixture
def url(driver: Driver, request: pytest.FixtureRequest, tmp_path: Path) -> str:
    return places.url_for(driver, request, tmp_path)


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
    started: list[Child] = []

    def start(act: str, queue: Queue, **arguments: Any) -> Child:
        process = Child(
            "conformance.broker.child", act=act, url=url, queue=queue.name, fields=dict(driver.queue), **arguments
        )
        started.append(process)
        return process

    yield start
    for process in started:
        process.kill()


@pytest.fixture
def proxy(driver: Driver, url: str) -> Iterator[TCPProxy]:
    """A proxy in front of the server."""
    if not driver.has_server:
        pytest.skip("there is no server to lose the connection to")
    with TCPProxy.to(url) as between:
        yield between


@pytest.fixture
def server(driver: Driver, private_server: Callable[[str], PrivateServer]) -> PrivateServer:
    """A server of this test's own."""
    if not driver.has_server:
        pytest.skip("there is no server to restart")
    places.require(driver)
    return private_server(driver.private)
