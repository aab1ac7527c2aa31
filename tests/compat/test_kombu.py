"""Queues and exchanges as a Celery project names them, understood by Umbel."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from umbel.compat.celery.app.base import Celery
from umbel.compat.kombu import Exchange, Queue, binding
from umbel.compat.kombu.common import Broadcast
from umbel.compat.kombu.utils import symbol_by_name
from umbel.compat.kombu.utils.url import maybe_sanitize_url, safequote
from umbel.errors import ConfigurationError


def app(*queues: object, broker: str = "memory://", **settings: object) -> Celery:
    return Celery("proj", broker=broker, task_queues=list(queues), set_as_current=False, **settings)


def test_queues_are_understood() -> None:
    orders = Queue("orders", Exchange("shop", type="topic"), routing_key="orders.#", max_priority=5, durable=False)
    (queue,) = app(orders).consume_queues()
    assert (queue.name, queue.exchange.name, queue.exchange.type) == ("orders", "shop", "topic")
    assert (queue.binding_key, queue.max_priority, queue.durable) == ("orders.#", 5, False)


@pytest.mark.parametrize(
    "queue",
    [
        Queue("q", "shop", "key"),
        Queue("q", exchange=Exchange("shop"), routing_key="key"),
        Queue("q", [binding(Exchange("shop"), routing_key="key")]),
        Queue("q", bindings=[binding("shop", "key")]),
    ],
)
def test_ways_to_name_an_exchange(queue: Queue) -> None:
    assert (queue.exchange, queue.routing_key) == (Exchange("shop"), "key")
    assert queue == Queue("q", "shop", "key") != Queue("q", "shop", "other")
    assert len({queue, Queue("q", "shop", "key")}) == 1


def test_several_bindings_are_refused() -> None:
    with pytest.raises(ConfigurationError, match="2 bindings"):
        Queue("q", [binding("a", "x"), binding("b", "y")])


def test_delivery_modes() -> None:
    assert Exchange("e", delivery_mode="transient").delivery_mode == 1 and Exchange("e").delivery_mode is None
    (queue,) = app(Queue("q", Exchange("e", delivery_mode=1))).consume_queues()
    assert queue.exchange.delivery_mode == 1


@pytest.mark.parametrize("system", ["memory", "redis", "rabbitmq"])
def test_what_is_sent_to_a_broadcast_reaches_each_worker(system: str, fresh_url: Callable[[str], str]) -> None:
    url = "memory://" if system == "memory" else fresh_url(system)
    workers = [app(Broadcast("news"), Queue("celery"), broker=url) for _ in range(2)]
    client = app(Broadcast("news"), Queue("celery"), broker=url, task_routes={"proj.tell": {"queue": "news"}})
    broker = client.broker
    consumers = []
    for number, worker in enumerate(workers):
        queues = worker.consume_queues()
        assert len(queues) == 2
        for queue in queues:
            broker.declare(queue)
        consumers.append(broker.consumer(queues, name=f"worker{number}"))
    try:
        sent = client.send_task("proj.tell")
        for consumer in consumers:
            received = [delivery.message.id for delivery in consumer.receive(10, 5.0)]
            assert received == [sent.id]
    finally:
        for consumer in consumers:
            consumer.close()
        client.close()


def test_a_broadcast_is_selected_by_its_name() -> None:
    made = app(Broadcast("news"), Queue("celery"))
    (queue,) = made.consume_queues(["news"])
    assert queue.exchange.type == "fanout" and queue.exchange_name == "news" and queue.name.startswith("bcast.")


def test_tools() -> None:
    assert symbol_by_name("os.path:join").__name__ == "join" and symbol_by_name(3) == 3
    assert symbol_by_name("no.such:thing", default=None) is None
    assert safequote("a/b") == "a%2Fb" and maybe_sanitize_url("redis://:secret@h") == "redis://:***@h"
