"""rpc:// answers that nobody waits for: not lost with a connection, and as good as the broker's confirm of the task."""

from __future__ import annotations

import secrets
import threading
from collections.abc import Iterator

import pytest

from conformance.messages import make
from proxy import TCPProxy
from umbel.backends.base import Meta, Options
from umbel.backends.rpc import RPCBackend
from umbel.brokers.amqp import AMQPBroker
from umbel.brokers.amqp.publisher import answered
from umbel.message import new_id
from umbel.queues import Queue
from workers import wait_for


@pytest.fixture
def reader(rabbitmq_url: str) -> Iterator[RPCBackend]:
    opened = RPCBackend("rpc://", Options(transport={"broker_url": rabbitmq_url}))
    yield opened
    opened.close()


def store(writer: RPCBackend, reader: RPCBackend, task_id: str, status: str = "SUCCESS") -> None:
    writer.store([writer.encode(Meta(task_id=task_id, status=status), reply_to=reader.reply_to)])


def test_what_a_connection_broke_over_is_sent_again_in_order(reader: RPCBackend, rabbitmq_url: str) -> None:
    ids = [new_id() for _ in range(5)]
    reader.on_publish(ids)
    with TCPProxy.to(rabbitmq_url) as proxy:
        writer = RPCBackend("rpc://", Options(transport={"broker_url": proxy.url(rabbitmq_url)}))
        store(writer, reader, ids[0])
        proxy.blackhole("up")
        for task_id in ids[1:]:
            store(writer, reader, task_id, "STARTED")
            store(writer, reader, task_id, "FAILURE")
        proxy.cut()
        proxy.heal()
        wait_for(lambda: len(reader.get(ids)) == 5 and all(meta.ready for meta in reader.get(ids).values()), 20)
        assert [reader.get(ids)[task_id].status for task_id in ids[1:]] == ["FAILURE"] * 4
        writer.close()


def test_closing_waits_until_answers_are_confirmed(reader: RPCBackend, rabbitmq_url: str) -> None:
    ids = [new_id() for _ in range(200)]
    reader.on_publish(ids)
    writer = RPCBackend("rpc://", Options(transport={"broker_url": rabbitmq_url}))
    for task_id in ids:
        store(writer, reader, task_id)
    writer.close()
    wait_for(lambda: len(reader.get(ids)) == len(ids))


def test_who_waits_for_a_confirm_goes_on_when_the_task_has_ended(rabbitmq_url: str) -> None:
    queue = Queue(f"q-{secrets.token_hex(6)}")
    with TCPProxy.to(rabbitmq_url) as proxy:
        broker = AMQPBroker(proxy.url(rabbitmq_url))
        broker.declare(queue)
        broker.publish([make(queue.name)])
        proxy.blackhole("down")
        message = make(queue.name)
        sending = threading.Thread(target=broker.publish, args=([message], 60.0))
        sending.start()
        answered(new_id())
        sending.join(0.3)
        assert sending.is_alive()

        def ended() -> bool:
            answered(message.id)
            return not sending.is_alive()

        wait_for(ended)
        proxy.heal()
        broker.close()
    direct = AMQPBroker(rabbitmq_url)
    direct.delete(queue.name)
    direct.close()


@pytest.mark.parametrize("status", ["STARTED", "RETRY"])
def test_a_task_that_has_not_ended_is_no_confirm(
    reader: RPCBackend, monkeypatch: pytest.MonkeyPatch, status: str
) -> None:
    told: list[str] = []
    monkeypatch.setattr("umbel.backends.rpc.answered", told.append)
    running, over = new_id(), new_id()
    reader.on_publish([running, over])
    store(reader, reader, running, status)
    store(reader, reader, over)
    wait_for(lambda: over in told)
    assert told == [over]
