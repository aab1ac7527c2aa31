"""Scale: claiming costs the same, however long the queue is."""

from __future__ import annotations

import statistics
import time

import pytest

from conformance.broker.conftest import Consume
from conformance.messages import ack, many, take
from umbel.brokers.base import Broker, Consumer
from umbel.queues import Queue

pytestmark = [pytest.mark.slow, pytest.mark.alone, pytest.mark.timeout(600)]

SHORT, LONG = 1_000, 100_000
NOISE = 0.001
"""Seconds within which the memory caches of this machine decide, not the driver."""


def fill(broker: Broker, queue: Queue, count: int) -> None:
    for start in range(0, count, 5_000):
        broker.publish(many(queue.name, min(5_000, count - start)), timeout=60.0)


def claim_time(consumer: Consumer) -> float:
    """Median seconds to claim and settle ten messages."""
    times: list[float] = []
    for _ in range(30):
        before = time.perf_counter()
        ack(consumer, take(consumer, 10))
        times.append(time.perf_counter() - before)
    return statistics.median(times)


def test_long_queue_does_not_slow_claims_down(broker: Broker, consume: Consume, queue: Queue) -> None:
    with consume(window=10) as consumer:
        fill(broker, queue, SHORT)
        claim_time(consumer)
        short = min(claim_time(consumer) for _ in range(2))
        fill(broker, queue, LONG)
        long = min(claim_time(consumer) for _ in range(4))
    assert long <= 2 * short + NOISE, f"{short * 1e3:.2f} ms for ten of {SHORT}, {long * 1e3:.2f} ms for ten of {LONG}"
    assert broker.purge(queue.name) >= LONG - 1_500
