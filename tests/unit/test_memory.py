"""What is particular to ``memory://`` and ``disabled://``; their contracts are tested in ``conformance``."""

from __future__ import annotations

import pytest

from umbel.backends import open_backend
from umbel.backends.base import Meta
from umbel.brokers import open_broker
from umbel.brokers.base import Settlement
from umbel.errors import NoBackend, UnroutableMessage
from umbel.message import Message, new_id
from umbel.queues import Queue, broadcast


def message(queue: str, exchange: str = "") -> Message:
    return Message(id=new_id(), task="t", queue=queue, headers=b"{}", body=b"", exchange=exchange)


@pytest.fixture
def name() -> str:
    return new_id()


def test_brokers_of_one_name_share_a_store(name: str) -> None:
    open_broker(f"memory://{name}").publish([message("q")])
    assert open_broker(f"memory://{name}").size("q").ready == 1
    assert open_broker(f"memory://{name}-other").size("q").ready == 0


def test_results_are_settled_only_for_the_backend_of_the_same_name(name: str) -> None:
    broker = open_broker(f"memory://{name}")
    assert broker.stores_results_of(open_backend(f"memory://{name}"))
    assert not broker.stores_results_of(open_backend(f"memory://{name}-other"))
    assert not broker.stores_results_of(open_backend("disabled://"))


def test_unroutable_message_leaves_nothing_sent(name: str) -> None:
    broker = open_broker(f"memory://{name}")
    with pytest.raises(UnroutableMessage):
        broker.publish([message("q"), message("", exchange="nowhere")])
    assert broker.size("q").ready == 0


def test_unroutable_follow_up_leaves_everything_unsettled(name: str) -> None:
    broker = open_broker(f"memory://{name}")
    broker.publish([message("q")])
    with broker.consumer([Queue("q")], name="w") as consumer:
        (delivery,) = consumer.receive(1, 0)
        with pytest.raises(UnroutableMessage):
            consumer.settle([Settlement(delivery, publish=(message("q2"), message("", exchange="nowhere")))])
        assert broker.size("q").held == 1
        assert broker.size("q2").ready == 0


def test_queue_of_ones_own_goes_with_its_consumer(name: str) -> None:
    broker = open_broker(f"memory://{name}")
    queues = [broadcast("all"), broadcast("all")]
    consumers = [broker.consumer([queue], name=queue.name) for queue in queues]
    broker.publish([message("", exchange="all")])
    assert [len(consumer.receive(5, 0)) for consumer in consumers] == [1, 1]
    consumers[0].close()
    assert queues[0].name not in broker.queues()
    assert queues[1].name in broker.queues()
    consumers[1].close()


def test_disabled_backend_drops_results_and_says_so() -> None:
    backend = open_backend("disabled://")
    backend.store([backend.encode(Meta(task_id="x", status="SUCCESS", result=object()))])
    backend.forget(["x"])
    for ask in (
        lambda: backend.get(["x"]),
        lambda: backend.wait(["x"], 1.0, print),
        lambda: backend.subscribe("x", print),
    ):
        with pytest.raises(NoBackend, match="no result backend is configured"):
            ask()
    assert backend.features.knows_nothing
