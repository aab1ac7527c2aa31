"""Dramatiq on Redis, and on RabbitMQ with results in Redis.

Two processes. Retries, time limits and the other default middleware stay, as its guide says. It has no bulk call
(`group.run` sends one message after the other), and on RabbitMQ it declares classic durable queues only.
"""

from __future__ import annotations

import time
from collections.abc import Callable

import dramatiq
from dramatiq.results import Results
from dramatiq.results.backends.redis import RedisBackend

from benchmarks.systems.base import BACKEND, BROKER, NAP, QUEUE, TASK_TIMEOUT, RedisCounts, SyncDriver

if BROKER.startswith("amqp"):
    from dramatiq.brokers.rabbitmq import RabbitmqBroker

    broker = RabbitmqBroker(url=BROKER)
else:
    from dramatiq.brokers.redis import RedisBroker

    broker = RedisBroker(url=BROKER)
broker.add_middleware(Results(backend=RedisBackend(url=BACKEND), store_results=True))
dramatiq.set_broker(broker)


@dramatiq.actor(queue_name=QUEUE)
def noop() -> int:
    return 1


@dramatiq.actor(queue_name=QUEUE)
def stamp() -> float:
    return time.monotonic()


@dramatiq.actor(queue_name=QUEUE)
def nap() -> int:
    time.sleep(NAP)
    return 1


TASKS = {"noop": noop, "nap": nap}


class Driver(SyncDriver):
    def send(self, task: str = "noop") -> object:
        return TASKS[task].send()

    def call(self) -> object:
        return noop.send().get_result(block=True, timeout=int(TASK_TIMEOUT * 1000))

    def send_stamp(self) -> Callable[[], float]:
        message = stamp.send()
        return lambda: message.get_result(block=True, timeout=int(TASK_TIMEOUT * 1000))

    def watch(self, expected: int) -> Callable[[], int]:
        return RedisCounts(BACKEND).new_keys()

    def cleanup(self) -> None:
        if BROKER.startswith("amqp"):
            for name in (QUEUE, f"{QUEUE}.DQ", f"{QUEUE}.XQ"):
                broker.channel.queue_delete(name)
