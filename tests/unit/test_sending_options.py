"""Sending: every option, routes, queues, deadlines, limits, bulk; and what must be refused before anything is sent."""

from __future__ import annotations

import asyncio
import datetime
import os
import re
import threading
import time
import uuid
from collections.abc import Iterator
from typing import Any

import pytest

from umbel import Exchange, Queue, Umbel, group
from umbel.errors import ConfigurationError, EncodeError, MessageTooLarge, OperationalError, UnroutableMessage
from umbel.message import Message, decode_headers, new_id
from umbel.sending import prepare, publish_deadline


def make(**settings: Any) -> Umbel:
    app = Umbel("send", broker=f"memory://{uuid.uuid4()}", set_as_current=False, **settings)
    app.make_task(lambda x=0, y=0: x + y, name="proj.add")
    return app


@pytest.fixture
def app() -> Iterator[Umbel]:
    with make() as made:
        yield made


def prepared(app: Umbel, *args: Any, **options: Any) -> Message:
    task = app.tasks["proj.add"]
    return prepare(app, "proj.add", args, {}, options, task)


@pytest.mark.parametrize(
    ("zone", "expected"), [(None, "2100-01-02T03:04:05+00:00"), ("Asia/Kolkata", "2100-01-01T21:34:05+00:00")]
)
def test_naive_moments_are_in_the_applications_zone(zone: str | None, expected: str) -> None:
    app = make(timezone=zone)
    message = prepared(app, eta=datetime.datetime(2100, 1, 2, 3, 4, 5))
    assert message.eta == datetime.datetime.fromisoformat(expected).timestamp()
    written = datetime.datetime.fromisoformat(decode_headers(message.headers)["eta"])
    assert (written.tzinfo is None) == (zone is None)


@pytest.mark.parametrize(
    "expires",
    [
        60,
        60.0,
        datetime.timedelta(minutes=1),
        lambda: datetime.datetime.now(datetime.UTC) + datetime.timedelta(minutes=1),
        lambda: (datetime.datetime.now(datetime.UTC) + datetime.timedelta(minutes=1)).isoformat(),
    ],
)
def test_expires_takes_seconds_and_moments(app: Umbel, expires: Any) -> None:
    message = prepared(app, expires=expires() if callable(expires) else expires)
    assert message.expires == pytest.approx(time.time() + 60, abs=2)


def test_local_time_is_written_where_utc_is_off() -> None:
    app = make(enable_utc=False, timezone="Asia/Kathmandu")
    assert decode_headers(prepared(app, countdown=1).headers)["eta"].endswith("+05:45")
    assert app.date_done().endswith("+05:45") and not app.uses_utc_timezone()
    with pytest.raises(ConfigurationError, match="Nowhere"):
        _ = make(timezone="Nowhere/Land").timezone


@pytest.mark.parametrize(
    ("options", "error"),
    [
        ({"coutdown": 5}, "did you mean 'countdown'"),
        ({"my_stamp": 1}, "stamped_headers"),
        ({"eta": 5}, "eta must be a datetime"),
        ({"expires": [1]}, "expires must be a datetime"),
    ],
)
def test_wrong_options_are_refused(app: Umbel, options: dict[str, Any], error: str) -> None:
    with pytest.raises(TypeError, match=error):
        app.tasks["proj.add"].apply_async((1,), **options)
    assert app.broker.peek("celery") == []


@pytest.mark.parametrize(("args", "kwargs"), [("text", None), ({1}, None), (None, [1]), (5, None)])
def test_args_must_be_a_list_and_kwargs_a_mapping(app: Umbel, args: Any, kwargs: Any) -> None:
    with pytest.raises(TypeError, match="must be"):
        app.send_task("x", args, kwargs)


def test_stamps_are_named_or_given(app: Umbel) -> None:
    headers = decode_headers(prepared(app, stamped_headers=["who"], who="me").headers)
    assert (headers["stamped_headers"], headers["stamps"]) == (["who"], {"who": "me"})


def test_unserializable_arguments_are_named(app: Umbel) -> None:
    with pytest.raises(EncodeError, match=r"lock"):
        app.tasks["proj.add"].delay({"lock": threading.Lock()})
    assert app.broker.peek("celery") == []


def test_large_messages_are_refused() -> None:
    app = make(message_max_bytes=2000)
    app.send_task("x", ("y" * 1000,))
    with pytest.raises(MessageTooLarge, match="message_max_bytes"):
        app.send_task("x", ("y" * 3000,))
    app.send_task("x", ("y" * 3000,), compression="zlib")


def test_priority_comes_from_call_task_or_setting() -> None:
    app = make(task_default_priority=4)
    task = app.make_task(lambda: None, name="urgent", priority=8)
    assert [prepare(app, "urgent", (), {}, o, task).priority for o in ({}, {"priority": 1})] == [8, 1]
    assert prepare(app, "nobody", (), {}, {}).priority == 4
    assert make().conf.task_default_priority is None and prepare(make(), "x", (), {}, {}).priority == 0


def test_serializer_and_compression_settings() -> None:
    app = make(task_serializer="msgpack", task_compression="zlib")
    message = prepared(app, 1)
    assert message.content_type == "application/x-msgpack"
    assert decode_headers(message.headers)["compression"] == "application/x-gzip"
    with pytest.raises(ConfigurationError, match="jsn"):
        prepared(app, 1, serializer="jsn")


def test_protocol_1_is_not_written() -> None:
    with pytest.raises(ConfigurationError, match="task_protocol"):
        prepared(make(task_protocol=1))


# -- routes and queues -----------------------------------------------------------------------------


def router(name: str, args: Any, kwargs: Any, options: Any, task: Any = None, **more: Any) -> Any:
    return {"queue": f"fn-{len(args)}"} if name.startswith("proj.") else None


class ByClass:
    def route_for_task(self, name: str, args: Any = None, kwargs: Any = None) -> Any:
        return "by-class" if name == "proj.add" else None


@pytest.mark.parametrize(
    ("routes", "queue"),
    [
        ({"proj.add": "exact"}, "exact"),
        ({"proj.add": {"queue": "exact", "priority": 3}}, "exact"),
        ({"proj.*": {"queue": "glob"}, "other": "x"}, "glob"),
        ({re.compile(r"^proj\.a"): "regex"}, "regex"),
        ([("other.*", "x"), ("proj.*", "pairs")], "pairs"),
        ([{"other": "x"}, {"proj.*": "second"}], "second"),
        (router, "fn-2"),
        ([ByClass(), router], "by-class"),
        ({"nothing": "x"}, "celery"),
        (None, "celery"),
    ],
)
def test_routes(routes: Any, queue: str) -> None:
    app = make(task_routes=routes)
    for _ in range(2):
        assert prepared(app, 1, 2).queue == queue
    assert prepared(app, 1, 2, queue="explicit").queue == "explicit"


def test_routes_by_dotted_name_and_their_options() -> None:
    app = make(task_routes=f"{__name__}.router")
    if __name__ in __import__("sys").modules:
        assert prepared(app, 1).queue == "fn-1"
    app.conf.task_routes = {"proj.add": {"queue": "q", "priority": 3, "serializer": "msgpack"}}
    message = prepared(app, 1)
    assert (message.queue, message.priority, message.content_type) == ("q", 3, "application/x-msgpack")
    assert prepared(app, 1, priority=9).priority == 9
    app.conf.task_routes = "no.such.module.route"
    with pytest.raises(ConfigurationError, match=r"no\.such\.module"):
        prepared(app, 1)


def test_queues_with_exchanges_are_addressed_through_them() -> None:
    media = Exchange("media", type="topic")
    app = make(
        task_queues=[Queue("celery"), Queue("video", media, routing_key="media.video"), Queue("plain")],
        task_routes={"proj.add": {"queue": "video"}},
    )
    message = prepared(app)
    assert (message.queue, message.exchange, message.routing_key) == ("video", "media", "media.video")
    message = prepared(app, routing_key="media.video.hd")
    assert (message.exchange, message.routing_key) == ("media", "media.video.hd")
    message = prepared(app, queue="plain")
    assert (message.exchange, message.routing_key) == ("", "plain")


def test_a_topic_exchange_brings_messages_to_its_queues() -> None:
    media = Exchange("media", type="topic")
    app = make(
        task_queues=[Queue("all", media, routing_key="media.#"), Queue("video", media, routing_key="media.video")]
    )
    app.send_task("x", queue="all")
    app.send_task("x", queue="video")
    sizes = [app.broker.size(name).ready for name in ("all", "video")]
    assert sizes[1] == 1 and sizes[0] >= 1


def test_publishing_without_retries_takes_one_attempt() -> None:
    app = make(task_publish_retry=False)
    assert publish_deadline(app, {}) == 4
    assert publish_deadline(app, {"retry": True}) == 10


def test_exchange_without_queue() -> None:
    message = prepare(make(), "x", (), {}, {"exchange": "news", "routing_key": "a.b"})
    assert (message.exchange, message.routing_key) == ("news", "a.b")


def test_queues_by_name_dict_or_object() -> None:
    assert list(make().queues()) == ["celery"]
    app = make(task_queues=["a", Queue("b", max_priority=5)], task_queue_max_priority=9, task_default_queue="a")
    assert [(q.name, q.max_priority) for q in app.queues().values()] == [("a", 9), ("b", 5)]
    app = make(task_queues={"t": {"exchange": "e", "exchange_type": "topic", "binding_key": "t.#"}})
    queue = app.queues()["t"]
    assert (queue.exchange.name, queue.exchange.type, queue.routing_key) == ("e", "topic", "t.#")
    with pytest.raises(ConfigurationError, match="rooting_key"):
        make(task_queues={"t": {"rooting_key": "x"}}).queues()


def test_missing_queues_are_made_or_refused() -> None:
    app = make(task_create_missing_queue_type="quorum")
    app.send_task("x", queue="new")
    assert app.queues()["new"].queue_arguments == {"x-queue-type": "quorum"}
    strict = make(task_create_missing_queues=False)
    strict.send_task("x")
    with pytest.raises(UnroutableMessage, match="new"):
        strict.send_task("x", queue="new")


def test_workers_consume_what_is_selected() -> None:
    app = make(task_queues=["a", "b", "c"])
    assert [q.name for q in app.consume_queues(None, None)] == ["a", "b", "c"]
    assert [q.name for q in app.consume_queues(["b", "z"], None)] == ["b", "z"]
    assert [q.name for q in app.consume_queues(None, ["b"])] == ["a", "c"]


def test_settings_changed_later_count(app: Umbel) -> None:
    assert prepared(app).queue == "celery"
    app.conf.task_default_queue = "other"
    assert prepared(app).queue == "other"
    app.conf.update(task_routes={"proj.*": "routed"})
    assert prepared(app).queue == "routed"


# -- bulk ------------------------------------------------------------------------------------------


def test_many_are_sent_in_order_in_one_publish(app: Umbel) -> None:
    task = app.tasks["proj.add"]
    results = app.send_many([task.s(n) for n in range(200)] + [app.signature("far.away", (1,))])
    messages = app.broker.peek("celery", 500)
    assert [result.id for result in results] == [message.id for message in messages]
    assert len({message.id for message in messages}) == 201
    assert app.send_many([]) == []


def test_group_members_share_an_id(app: Umbel) -> None:
    task = app.tasks["proj.add"]
    result = group(task.s(n) for n in range(3)).apply_async(queue="q")
    headers = [decode_headers(message.headers) for message in app.broker.peek("q")]
    assert [(h["group"], h["group_index"]) for h in headers] == [(result.id, n) for n in range(3)]


def test_signatures_are_partial_and_immutable(app: Umbel) -> None:
    task = app.tasks["proj.add"]
    task.s(1).apply_async((2,), queue="q")
    task.si(1, 1).apply_async((2,), queue="q")
    bodies = [message.body[:8] for message in app.broker.peek("q")]
    assert bodies == [b"[[2,1],{", b"[[1,1],{"]
    sig = task.s(1).set(queue="q", countdown=1)
    assert (sig.options, sig.task, sig["args"]) == ({"queue": "q", "countdown": 1}, "proj.add", (1,))
    assert sig.clone((5,), {"y": 1}).args == (5, 1) and sig.args == (1,)
    assert task.s(1)(2) == 3
    frozen = task.s(1).freeze("fixed")
    assert frozen.id == "fixed"


# -- failure ---------------------------------------------------------------------------------------


def test_unreachable_broker_is_a_typed_error_in_time() -> None:
    app = Umbel("down", broker="redis://127.0.0.1:1/0", set_as_current=False, publish_timeout=0.5)
    for send in (lambda: app.send_task("x"), lambda: app.send_many([app.signature("x")])):
        started = time.monotonic()
        with pytest.raises(OperationalError):
            send()
        assert time.monotonic() - started < 2

    async def asynchronously() -> None:
        with pytest.raises(OperationalError):
            await app.asend_task("x")

    asyncio.run(asynchronously())


@pytest.mark.parametrize(
    ("options", "seconds"),
    [
        ({}, 10),
        ({"timeout": 3}, 3),
        ({"timeout": 30}, 10),
        ({"retry": False}, 4),
        ({"retry_policy": {"max_retries": 3, "interval_start": 0, "interval_step": 0.2, "interval_max": 0.2}}, 4.4),
        ({"retry_policy": {"max_retries": None}}, 10),
        ({"retry_policy": {"max_retries": 1000, "interval_start": 1, "interval_step": 1, "interval_max": 1}}, 10),
    ],
)
def test_one_deadline_from_all_options(app: Umbel, options: dict[str, Any], seconds: float) -> None:
    assert publish_deadline(app, options) == pytest.approx(seconds)


def test_ids_are_random_uuids_also_after_a_fork() -> None:
    ids = [new_id() for _ in range(1000)]
    assert len(set(ids)) == 1000
    for text in ids[:100]:
        assert str(uuid.UUID(text)) == text and uuid.UUID(text).version == 4
        assert uuid.UUID(text).variant == uuid.RFC_4122
    new_id()
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        os.write(writing, "".join(new_id() for _ in range(50)).encode())
        os._exit(0)
    os.waitpid(child, 0)
    theirs = os.read(reading, 36 * 50).decode()
    assert len(theirs) == 36 * 50
    ours = {new_id() for _ in range(200)}
    assert not ours & {theirs[i : i + 36] for i in range(0, len(theirs), 36)}


def test_sending_without_waiting_for_the_loop(app: Umbel) -> None:
    async def main() -> list[str]:
        results = await asyncio.gather(*(app.asend_task("x", (n,)) for n in range(20)))
        return [result.id for result in results]

    assert sorted(asyncio.run(main())) == sorted(message.id for message in app.broker.peek("celery", 50))
