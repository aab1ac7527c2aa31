"""What secured connections must carry: a message from declaring to settling, a worker's tasks and their results."""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable
from types import ModuleType

from conformance.messages import ack, make, take
from conformance.waiting import Running
from umbel.brokers.base import Broker
from umbel.queues import Queue
from workers import Fleet, wait_for


def carry_message(broker: Broker, is_idle: Callable[[], object] = lambda: True) -> None:
    """Declare, wake an idle consumer by publishing, settle, delete. ``is_idle``: whether a consumer sleeps."""
    queue = Queue(f"q-{secrets.token_hex(6)}")
    broker.declare(queue, timeout=10.0)
    with broker.consumer([queue], name="secured@test", lease=5.0) as consumer:
        consumer.receive(1, 0.0)
        waiting = Running(lambda: take(consumer, 1, timeout=15.0))
        wait_for(is_idle, what="an idle consumer")
        message = make(queue.name, b"x" * 200_000)
        broker.publish([message])
        published = time.time()
        deliveries = waiting.result()
        assert waiting.ended - published < 5.0
        assert [(held.message.id, held.message.body) for held in deliveries] == [(message.id, message.body)]
        assert consumer.renew()
        ack(consumer, deliveries)
    assert broker.size(queue.name).ready == 0
    broker.delete(queue.name)


def run_tasks(workers: Fleet, tasks: ModuleType) -> None:
    """Real tasks on a real worker: many, one that is retried after a delay, and one with a large result."""
    worker = workers.start("--concurrency", "2")
    results = [tasks.add.delay(n, n) for n in range(50)]
    retried, large = tasks.succeed_at.delay(2), tasks.big.delay(300_000)
    assert [result.get(timeout=20) for result in results] == [2 * n for n in range(50)]
    assert retried.get(timeout=20) == 2
    assert len(large.get(timeout=20)) == 300_000
    assert worker.stop() == 0


def one_line(error: BaseException, *words: str) -> None:
    """Fails unless the error is one line that has all ``words``."""
    text = str(error)
    assert "\n" not in text
    for word in words:
        assert word in text, text
