"""What we send equals, field for field, what a real Celery sent for the same call."""

from __future__ import annotations

import datetime
import json
import os
import pathlib
from collections.abc import Callable
from typing import Any

import msgspec
import pytest

from umbel import Umbel, group
from umbel.brokers.envelope import decode_envelope
from umbel.codecs import accept_set, loads
from umbel.message import Message, decode_headers

ROOT = pathlib.Path(__file__).parents[2]
VECTORS = pathlib.Path(os.environ.get("UMBEL_VECTORS") or ROOT.parent / "shared" / "wire" / "vectors")
CAPTURE = VECTORS / "redis_messages.json"

pytestmark = pytest.mark.skipif(not CAPTURE.is_file(), reason="no golden vectors: set UMBEL_VECTORS to their directory")

ALL = accept_set(["json", "pickle", "yaml", "msgpack"])
VARYING = {"origin"}

app = Umbel("wire", broker="memory://vectors", backend="memory://vectors", mixed_fleet=True, set_as_current=False)
"""``mixed_fleet`` sends delayed messages to their queue at once, as Celery does."""


@app.task(name="wire.add")
def add(x: int, y: int, z: int = 0) -> int:
    return x + y + z


@app.task(name="wire.echo")
def echo(*args: Any, **kwargs: Any) -> Any:
    return args, kwargs


@app.task(name="wire.errback")
def errback(request: Any, exc: Any, traceback: Any) -> None: ...


@app.task(name="wire.fail")
def fail(text: str) -> None: ...


@app.task(name="wire.limits", time_limit=30, soft_time_limit=20)
def limits() -> None: ...


utc = datetime.UTC
india = datetime.timezone(datetime.timedelta(hours=5, minutes=30))
moment = datetime.datetime(2100, 1, 2, 3, 4, 5)
Call = Callable[..., Any]


def adding(**options: Any) -> Call:
    return lambda task_id: add.apply_async((2, 3), task_id=task_id, **options)


def echoing(**options: Any) -> Call:
    return lambda task_id: echo.apply_async((1, "two", [3]), {"k": "v"}, task_id=task_id, **options)


CALLS: dict[str, Call] = {
    "plain": adding(),
    "args_and_kwargs": lambda task_id: echo.apply_async(
        (1, "two", None, True, 4.5, [6], {"k": "v"}), {"u": "é中😀"}, task_id=task_id
    ),
    "kwargs": lambda task_id: add.apply_async(kwargs={"x": 2, "y": 3, "z": 4}, task_id=task_id),
    "no_args": lambda task_id: limits.apply_async(task_id=task_id),
    "countdown": adding(countdown=3600),
    "eta_aware": adding(eta=moment.replace(tzinfo=utc)),
    "eta_naive": adding(eta=moment),
    "eta_offset": adding(eta=moment.replace(tzinfo=india)),
    "expires_seconds": adding(expires=120.5),
    "expires_datetime": adding(expires=datetime.datetime.now(utc) + datetime.timedelta(days=10)),
    "time_limits": adding(time_limit=60, soft_time_limit=50.5),
    "ignore_result": adding(ignore_result=True),
    "shadow": adding(shadow="alias.name"),
    "custom_headers": adding(headers={"x-tenant": "acme", "n": 5}),
    "retries_field": adding(retries=2),
    "replaced_nesting": adding(replaced_task_nesting=2),
    "other_queue": adding(queue="other"),
    "link": adding(link=add.s(10)),
    "link_error": adding(link_error=errback.s()),
    "link_many": adding(link=[add.s(10), add.si(1, 1)], link_error=[errback.s(), fail.si("x")]),
    "send_task_by_name": lambda task_id: app.send_task("not.registered", [1], {"a": 2}, task_id=task_id),
    "stamped_keywords": adding(
        stamped_headers=["tags", "monitoring_id"], stamps={"monitoring_id": "mon-1", "tags": ["a", "b"]}
    ),
    **{f"priority_{n}": adding(priority=n) for n in (0, 1, 3, 5, 6, 9)},
    **{f"serializer_{name}": echoing(serializer=name) for name in ("json", "msgpack", "pickle", "yaml")},
}


def scenario(name: str) -> dict[str, Any]:
    return json.loads(CAPTURE.read_text())["scenarios"][name]


def celerys(name: str) -> list[Message]:
    """The messages that Celery sent, in the order of their place in the group."""
    found = [
        decode_envelope(msgspec.json.encode(shown["envelope"]), shown["key"].partition("\x06")[0])
        for shown in scenario(name)["messages"]
    ]
    return sorted(found, key=lambda message: decode_headers(message.headers).get("group_index") or 0)


def body(message: Message) -> Any:
    headers = decode_headers(message.headers)
    return loads(message.body, message.content_type, message.content_encoding, ALL, headers.get("compression"))


def sent(call: Callable[[], object]) -> list[Message]:
    for queue in ("celery", "other"):
        app.broker.purge(queue)
    call()
    return [message for queue in ("celery", "other") for message in app.broker.peek(queue, 100)]


def check_equal(ours: Message, theirs: Message) -> None:
    mine, yours = decode_headers(ours.headers), decode_headers(theirs.headers)
    for name in ("eta", "expires"):
        if theirs_moving(yours[name]):
            yours[name] = mine[name] = "a moment"
    assert {k: v for k, v in mine.items() if k not in VARYING} == {k: v for k, v in yours.items() if k not in VARYING}
    assert mine["origin"].startswith("gen") and "@" in mine["origin"]
    for name in ("id", "task", "queue", "content_type", "content_encoding", "priority", "correlation_id"):
        assert getattr(ours, name) == getattr(theirs, name), name
    for name in ("exchange", "routing_key", "delivery_mode"):
        assert getattr(ours, name) == getattr(theirs, name), name
    assert ours.reply_to and theirs.reply_to
    assert body(ours) == body(theirs)


def theirs_moving(value: str | None) -> bool:
    """Whether a moment was relative to when the vectors were captured."""
    return value is not None and not value.startswith("2100")


@pytest.mark.parametrize("name", sorted(CALLS))
def test_message_equals_celerys(name: str) -> None:
    (theirs,) = celerys(name)
    ours = sent(lambda: CALLS[name](theirs.id))
    assert len(ours) == 1
    check_equal(ours[0], theirs)


@pytest.mark.parametrize("name", ["zlib", "gzip", "bzip2", "lzma", "xz", "zstd", "brotli"])
def test_compressed_message_equals_celerys(name: str) -> None:
    (theirs,) = celerys(f"compression_{name}")
    args, kwargs, _ = body(theirs)
    (ours,) = sent(lambda: echo.apply_async(tuple(args), kwargs, task_id=theirs.id, compression=name))
    check_equal(ours, theirs)


def test_rich_types_are_written_as_celery_writes_them() -> None:
    (theirs,) = celerys("json_rich_types")
    args, kwargs, _ = body(theirs)
    (ours,) = sent(lambda: echo.apply_async(args, kwargs, task_id=theirs.id))
    assert json.loads(ours.body) == json.loads(theirs.body)


def test_group_equals_celerys() -> None:
    theirs = celerys("group")
    group_id = decode_headers(theirs[0].headers)["group"]
    ids = [message.id for message in theirs]
    arguments = [body(message)[0] for message in theirs]
    calls = [add.s(*args).set(task_id=task_id) for args, task_id in zip(arguments, ids, strict=True)]
    ours = sent(lambda: group(calls).apply_async(task_id=group_id))
    assert len(ours) == len(theirs) > 1
    for mine, yours in zip(ours, theirs, strict=True):
        check_equal(mine, yours)


def test_countdown_is_a_moment_in_utc_with_offset() -> None:
    before = datetime.datetime.now(utc)
    (ours,) = sent(lambda: add.apply_async((2, 3), countdown=3600))
    eta = datetime.datetime.fromisoformat(decode_headers(ours.headers)["eta"])
    assert eta.utcoffset() == datetime.timedelta(0)
    assert 3599 < (eta - before).total_seconds() < 3602
    assert ours.eta == pytest.approx(eta.timestamp(), abs=0.001)
