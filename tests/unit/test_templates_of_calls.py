"""Calls that a program makes again and again: their messages come from a template, and are as if prepared."""

from __future__ import annotations

import datetime
import os
import secrets
import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from umbel import Umbel
from umbel.codecs import register_serializer, registry
from umbel.codecs.typed_json import decode, encode
from umbel.current import pop_request, push_request
from umbel.errors import EncodeError, MessageTooLarge, UnroutableMessage
from umbel.message import Message, decode_headers
from umbel.middleware import Middleware
from umbel.queues import Queue
from umbel.request import Request
from umbel.sending import prepare
from umbel.signals import before_task_publish
from umbel.task import Task
from umbel.testing import VirtualClock


@pytest.fixture
def app() -> Iterator[Umbel]:
    url = f"memory://{secrets.token_hex(6)}"
    with Umbel("calls", broker=url, backend=url) as made:

        @made.task(name="add", priority=3)
        def add(x: Any = 0, *more: Any, **named: Any) -> Any:
            return x

        yield made


@pytest.fixture
def add(app: Umbel) -> Task[..., Any]:
    return app.tasks["add"]


@pytest.fixture
def prepared(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The tasks for which a message was prepared."""
    names: list[str] = []

    def count(app: Umbel, name: str, *args: Any) -> Message:
        names.append(name)
        return prepare(app, name, *args)

    monkeypatch.setattr("umbel.templates.prepare", count)
    return names


def shown(message: Message) -> dict[str, Any]:
    """All that is not drawn at random."""
    fields = {name: getattr(message, name) for name in message.__struct_fields__}
    headers = decode_headers(fields.pop("headers"))
    ids = [fields.pop("id"), fields.pop("correlation_id"), headers.pop("id")]
    assert len(set(ids)) == 1
    if headers["root_id"] == ids[0]:
        headers["root_id"] = "own"
    return {**fields, "headers": list(headers.items())}


def made(app: Umbel, *args: Any, task: Task[..., Any] | None = None, **options: Any) -> Message:
    return app.templates.message("add", args, {}, options, task)


ARGUMENTS: dict[str, tuple[Any, Any]] = {
    "none": ((), {}),
    "missing": (None, None),
    "empty list": ([], {}),
    "numbers": ((1, 2.5, None, True), {}),
    "text": (('é "x" \ud800 %s',), {"y": "\\"}),
    "nested": (([1, {"a": (2, 3)}],), {"z": [[[[1]]]]}),
    "typed": ((datetime.datetime(2026, 1, 2), b"\xff"), {}),
    "long": (("x" * 3000,), {"y": "y" * 3000}),
}
OPTIONS: dict[str, dict[str, Any]] = {
    "none": {},
    "queue": {"queue": "other", "priority": 9},
    "limits": {"time_limit": 3, "soft_time_limit": 1.5, "ignore_result": True},
    "without": {"queue": None, "priority": None},
    "pickle": {"serializer": "pickle"},
    "eta": {"countdown": 10},
    "expires": {"expires": 10},
    "headers": {"headers": {"x": 1}},
    "shadow": {"shadow": "other"},
    "compressed": {"compression": "gzip"},
}


@pytest.mark.parametrize("known", [True, False], ids=["task", "name only"])
@pytest.mark.parametrize("options", OPTIONS)
@pytest.mark.parametrize("arguments", ARGUMENTS)
def test_the_same_as_prepared(app: Umbel, arguments: str, options: str, known: bool) -> None:
    args, kwargs = ARGUMENTS[arguments]
    task = app.tasks["add"] if known else None
    with VirtualClock(1e9):
        expected = shown(prepare(app, "add", args, kwargs, OPTIONS[options], task))
        for _ in range(2):
            assert shown(app.templates.message("add", args, kwargs, OPTIONS[options], task)) == expected


def test_one_message_is_prepared_for_many_calls(app: Umbel, add: Task[..., Any], prepared: list[str]) -> None:
    for number in range(5):
        add.delay(number)
        add.apply_async((number,), queue="other")
        app.send_task("add", (number,))
    app.send_many([add.s(number) for number in range(5)])
    assert len(prepared) == 3


def test_options_that_are_equal_but_not_the_same(app: Umbel) -> None:
    for value in (True, 1, 1.0):
        headers = decode_headers(made(app, ignore_result=value).headers)
        assert type(headers["ignore_result"]) is type(value)


def test_inside_of_a_task(app: Umbel, add: Task[..., Any]) -> None:
    made(app, task=add)
    for root in ("root", None):
        token = push_request(Request(id="parent", root_id=root, called_directly=False, owner_task=add))
        try:
            message, expected = made(app, 1, task=add), prepare(app, "add", (1,), {}, {}, add)
        finally:
            pop_request(token)
        headers = decode_headers(message.headers)
        assert (headers["root_id"], headers["parent_id"]) == (root or "parent", "parent")
        assert shown(message) == shown(expected)
    assert decode_headers(made(app, task=add).headers)["parent_id"] is None


def test_priorities_that_are_inherited(app: Umbel) -> None:
    app.conf.task_inherit_parent_priority = True
    assert made(app).priority == 0
    parent = Request(id="parent", called_directly=False, message=prepare(app, "add", (), {}, {"priority": 7}))
    token = push_request(parent)
    try:
        assert made(app).priority == 7
    finally:
        pop_request(token)


Change = Callable[[Umbel, Task[..., Any]], object]
CHANGES: dict[str, Change] = {
    "default queue": lambda app, add: app.conf.update(task_default_queue="new"),
    "default priority": lambda app, add: app.conf.update(task_default_priority=1),
    "routes": lambda app, add: app.conf.update(task_routes={"add": "routed"}),
    "routes by function": lambda app, add: app.conf.update(task_routes=[lambda *_, **__: {"queue": "routed"}]),
    "serializer": lambda app, add: app.conf.update(task_serializer="pickle"),
    "compression": lambda app, add: app.conf.update(task_compression="gzip"),
    "shown levels": lambda app, add: app.conf.update(task_repr_maxlevels=1),
    "the task's queue": lambda app, add: setattr(add, "queue", "own"),
    "the task's time limit": lambda app, add: setattr(add, "time_limit", 5),
    "the task's expiry": lambda app, add: setattr(add, "expires", 60),
    "an added queue": lambda app, add: app.routes.add(Queue("celery", routing_key="x", max_priority=5)),
    "a setting that is set back": lambda app, add: app.conf.reset("task_default_priority"),
}


@pytest.mark.parametrize("change", CHANGES)
def test_what_has_changed_is_seen(app: Umbel, add: Task[..., Any], change: str) -> None:
    app.conf.task_default_priority = 5
    with VirtualClock(1e9):
        for task in (add, None):
            made(app, [[1]], task=task)
        CHANGES[change](app, add)
        for task in (add, None):
            assert shown(made(app, [[1]], task=task)) == shown(prepare(app, "add", ([[1]],), {}, {}, task))


def test_an_expiry_counts_from_each_call(app: Umbel, add: Task[..., Any]) -> None:
    add.expires = 60
    for moment in (1e9, 2e9):
        with VirtualClock(moment):
            assert made(app, task=add).expires == moment + 60


def test_a_serializer_that_is_replaced(app: Umbel, monkeypatch: pytest.MonkeyPatch) -> None:
    for table in ("_by_name", "_by_type"):
        monkeypatch.setattr(registry, table, dict(vars(registry)[table]))
    made(app)
    register_serializer("json", lambda value: b" " + encode(value), decode, "application/x-spaced")
    assert made(app).content_type == "application/x-spaced"


def test_where_somebody_may_change_each_message(app: Umbel) -> None:
    class Priorities(Middleware):
        def publish(self, call: Any, next: Any, /) -> Any:
            call.options["priority"] = call.args[0]
            return next(call)

    told: list[str] = []

    def listen(sender: Any, headers: Any, **_: Any) -> None:
        told.append(headers["id"])

    made(app, 1)
    before_task_publish.connect(listen)
    try:
        assert told == [made(app, 1).id]
    finally:
        before_task_publish.disconnect(listen)
    middleware = Priorities()
    app.middleware.add(middleware)
    assert [made(app, number).priority for number in (2, 7)] == [2, 7]
    app.middleware.remove(middleware)
    assert made(app, 2).priority == 0


def test_each_thread_has_its_address_for_answers(app: Umbel) -> None:
    found = [made(app).reply_to]
    thread = threading.Thread(target=lambda: found.append(made(app).reply_to))
    thread.start()
    thread.join()
    assert found[0] == app.reply_address() != found[1]


def test_a_forked_child_has_a_name_of_its_own(app: Umbel) -> None:
    made(app)
    readable, writable = os.pipe()
    child = os.fork()
    if not child:
        os.write(writable, decode_headers(made(app).headers)["origin"].encode())
        os._exit(0)
    os.waitpid(child, 0)
    assert os.read(readable, 1000).startswith(f"gen{child}@".encode())
    os.close(readable)
    os.close(writable)


def test_what_is_refused_is_refused_each_time(app: Umbel, add: Task[..., Any]) -> None:
    for _ in range(2):
        with pytest.raises(EncodeError, match="set"):
            add.delay({1})
        with pytest.raises(TypeError, match="list or tuple"):
            add.apply_async("text")
        with pytest.raises(TypeError, match="unknown execution option"):
            add.apply_async((1,), nonsense=1)  # pyright: ignore[reportCallIssue]
    app.conf.message_max_bytes = 2000
    app.conf.task_create_missing_queues = False
    for _ in range(2):
        with pytest.raises(MessageTooLarge):
            add.delay("x" * 3000)
        with pytest.raises(UnroutableMessage):
            add.apply_async((1,), queue="nowhere")
    assert app.broker.size("celery").ready == 0
