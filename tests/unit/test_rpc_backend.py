"""rpc:// results: the URL, Celery's messages as they come, what is kept and what is left behind."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pika
import pytest

from conformance.waiting import assert_prompt, timed
from proxy import TCPProxy
from umbel import Umbel
from umbel.backends.base import Meta, Options
from umbel.backends.rpc import RPCBackend
from umbel.backends.rpc_listener import broker_url
from umbel.errors import ConfigurationError, PublishTimeout
from umbel.message import new_id
from workers import wait_for

VECTORS = json.loads(Path(__file__).with_name("test_amqp_vectors.json").read_text())


@pytest.fixture
def backend(rabbitmq_url: str) -> Iterator[RPCBackend]:
    """A backend whose URL is ``rpc://`` alone."""
    opened = RPCBackend("rpc://", Options(transport={"broker_url": rabbitmq_url, "cache_max": 100}))
    yield opened
    opened.close()


@pytest.fixture
def raw(rabbitmq_url: str) -> Iterator[Any]:
    with pika.BlockingConnection(pika.URLParameters(rabbitmq_url)) as connection:
        yield connection.channel()


def success(backend: RPCBackend, task_id: str, result: Any = None) -> None:
    meta = Meta(task_id=task_id, status="SUCCESS", result=result)
    backend.store([backend.encode(meta, reply_to=backend.reply_to, correlation_id=task_id)])


def test_where_results_travel() -> None:
    app = Options(transport={"broker_url": "amqps://h//;amqp://i//"})
    assert broker_url("rpc://", app) == "amqps://h//;amqp://i//"
    assert broker_url("rpc://u:p@other:1/v", app) == "amqp://u:p@other:1/v"
    with pytest.raises(ConfigurationError, match="RabbitMQ"):
        broker_url("rpc://", Options(transport={"broker_url": "redis://localhost"}))


@pytest.mark.parametrize("vector", VECTORS["results"])
def test_result_of_a_celery_worker_is_read(backend: RPCBackend, raw: Any, vector: dict[str, str]) -> None:
    body = base64.b64decode(vector["body_b64"])
    document = json.loads(body)
    task_id = document["task_id"]
    backend.on_publish([task_id])
    properties = pika.BasicProperties("application/json", "utf-8", {}, 1, 0, task_id)
    raw.basic_publish("", backend.reply_to, body, properties)
    meta = wait_for(lambda: backend.get([task_id]))[task_id]
    assert (meta.status, meta.result, meta.date_done) == (
        document["status"],
        document["result"],
        document["date_done"],
    )


def test_result_is_sent_as_celerys_workers_send_it(backend: RPCBackend, raw: Any) -> None:
    raw.queue_declare("answers", exclusive=True)
    meta = Meta(task_id="t", status="SUCCESS", result=3, children=[])
    backend.store([backend.encode(meta, reply_to="answers", correlation_id="c")])
    _, properties, body = wait_for(lambda: got if (got := raw.basic_get("answers", auto_ack=True))[0] else None)
    assert (properties.content_type, properties.content_encoding) == ("application/json", "utf-8")
    assert (properties.correlation_id, properties.delivery_mode, properties.priority) == ("c", 1, 0)
    assert list(json.loads(body)) == ["status", "result", "traceback", "children", "date_done", "task_id"]


def test_persistent_results(rabbitmq_url: str, raw: Any) -> None:
    backend = RPCBackend(f"rpc{rabbitmq_url.removeprefix('amqp')}", Options(persistent=True))
    raw.queue_declare("answers", exclusive=True)
    backend.store([backend.encode(Meta(task_id="t", status="SUCCESS"), reply_to="answers")])
    _, properties, _ = wait_for(lambda: got if (got := raw.basic_get("answers", auto_ack=True))[0] else None)
    assert (properties.delivery_mode, properties.correlation_id) == (2, "t")
    backend.close()


def test_answer_to_nobody_is_dropped(backend: RPCBackend) -> None:
    encoded = backend.encode(Meta(task_id="t", status="SUCCESS"), reply_to=new_id())
    backend.store([encoded])
    backend.store([backend.encode(Meta(task_id="t", status="SUCCESS"))])


def test_cache_is_bounded(backend: RPCBackend) -> None:
    ids = [new_id() for _ in range(300)]
    backend.on_publish(ids)
    for task_id in ids:
        success(backend, task_id)
    wait_for(lambda: backend.get(ids[-1:]))
    assert len(backend.get(ids)) <= 101
    assert not backend.get(ids[:1])


def test_delay_ends_in_time_where_only_the_reply_queue_cannot_be_made(rabbitmq_url: str) -> None:
    with TCPProxy.to(rabbitmq_url) as proxy:
        proxy.blackhole()
        backend = proxy.url(rabbitmq_url).replace("amqp://", "rpc://")
        with Umbel("sender", broker="memory://", backend=backend, publish_timeout=1.0) as app:

            def fail() -> None:
                with pytest.raises(PublishTimeout, match="the result store could not be prepared"):
                    app.send_task("a.task")

            assert_prompt(1.5, lambda: timed(fail))


def test_close_deletes_the_reply_queue(backend: RPCBackend, raw: Any) -> None:
    backend.on_publish(["t"])
    raw.queue_declare(backend.reply_to, passive=True)
    backend.close()
    with pytest.raises(pika.exceptions.ChannelClosedByBroker, match="NOT_FOUND"):
        raw.queue_declare(backend.reply_to, passive=True)
