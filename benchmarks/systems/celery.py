"""Celery, prefork pool, on Redis, on RabbitMQ with results in Redis, and on RabbitMQ with `rpc://`.

Settings by Celery's own "Optimizing" page: a large prefetch for short tasks, no gossip, mingle or heartbeats, rate
limits off. On RabbitMQ confirmed publishing; with results in Redis a quorum queue, as its documentation asks for, and
with `rpc://`, whose results are volatile anyway, its default, a classic queue.
"""

from __future__ import annotations

import time
from collections.abc import Callable

from celery import Celery
from kombu import Queue

from benchmarks.systems.base import BACKEND, BROKER, NAP, QUEUE, TASK_TIMEOUT, RedisCounts, SyncDriver

app = Celery("bench", broker=BROKER, backend=BACKEND)
app.conf.update(
    task_default_queue=QUEUE,
    worker_prefetch_multiplier=128,
    worker_disable_rate_limits=True,
    broker_connection_retry_on_startup=True,
)
QUEUE_TYPE = "classic" if BACKEND.startswith("rpc") else "quorum"
if BROKER.startswith("amqp"):
    app.conf.update(
        task_queues=[Queue(QUEUE, routing_key=QUEUE, queue_arguments={"x-queue-type": QUEUE_TYPE})],
        task_default_exchange=QUEUE,
        task_default_routing_key=QUEUE,
        broker_transport_options={"confirm_publish": True},
    )


@app.task
def noop() -> int:
    return 1


@app.task
def stamp() -> float:
    return time.monotonic()


@app.task
def total(numbers: list[int]) -> int:
    return sum(numbers)


@app.task
def nap() -> None:
    time.sleep(NAP)


TASKS = {"noop": noop, "nap": nap}


class Driver(SyncDriver):
    def send(self, task: str = "noop") -> object:
        return TASKS[task].delay()

    def send_many(self, count: int, task: str = "noop") -> None:
        with app.producer_or_acquire() as producer:
            for _ in range(count):
                TASKS[task].apply_async(producer=producer)

    def canvas(self, what: str, **arguments: int) -> float:
        """A request of `systems.canvases`."""
        import celery

        from benchmarks.systems.canvases import Canvases

        return getattr(Canvases(app, celery, __name__), what)(**arguments)

    def call(self) -> object:
        return noop.delay().get(timeout=TASK_TIMEOUT)

    def send_stamp(self) -> Callable[[], float]:
        result = stamp.delay()
        return lambda: result.get(timeout=TASK_TIMEOUT)

    def watch(self, expected: int) -> Callable[[], int]:
        return RedisCounts(BACKEND).new_keys()

    def cleanup(self) -> None:
        if BROKER.startswith("amqp"):
            with app.connection_for_write() as connection:
                connection.default_channel.queue_delete(QUEUE)
