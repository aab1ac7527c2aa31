"""Messages of a group made from a template are those that would be prepared one by one."""

from __future__ import annotations

import secrets
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from umbel import Umbel, chord, group
from umbel.canvas import bulk
from umbel.current import pop_request, push_request
from umbel.errors import EncodeError, InvalidCanvas, MessageTooLarge
from umbel.message import Message, decode_headers
from umbel.middleware import Middleware
from umbel.request import Request
from umbel.sending import prepare
from umbel.signals import before_task_publish
from umbel.testing import VirtualClock

COUNT = 6


@pytest.fixture
def app() -> Iterator[Umbel]:
    url = f"memory://{secrets.token_hex(6)}"
    with Umbel("templates", broker=url, backend=url) as made:

        @made.task(name="add", priority=3)
        def add(x: Any, y: Any = 0) -> Any:
            return x

        yield made


def shown(message: Message) -> dict[str, Any]:
    """All that is not drawn at random."""
    fields = {name: getattr(message, name) for name in message.__struct_fields__}
    headers = decode_headers(fields.pop("headers"))
    ids = [fields.pop("id"), fields.pop("correlation_id"), headers.pop("id")]
    assert len(set(ids)) == 1
    if headers["root_id"] == ids[0]:
        headers["root_id"] = "own"
    return {**fields, "headers": list(headers.items())}


Make = Callable[[Any], Any]
SHAPES: dict[str, Make] = {
    "plain": lambda add: group(add.s(i) for i in range(COUNT)),
    "keywords": lambda add: group(add.s(i, y=[i]) for i in range(COUNT)),
    "text": lambda add: group(add.s(f'é "{i}" \ud800 %s') for i in range(COUNT)),
    "options": lambda add: group(add.s(i).set(queue="other", priority=1, countdown=1000) for i in range(COUNT)),
    "stamps": lambda add: group(add.s(i) for i in range(COUNT)).stamp(tenant="acme"),
    "headers": lambda add: group(add.s(i).set(headers={"x": 1, "shadow": "y"}, time_limit=3) for i in range(COUNT)),
    "links": lambda add: group(add.s(i).on_error(add.s(9)) for i in range(COUNT)),
    "pickled": lambda add: group(add.s(i).set(serializer="pickle") for i in range(COUNT)),
    "chord": lambda add: chord([add.s(i) for i in range(COUNT)], add.s()),
    "partial": lambda add: group(add.s(i) for i in range(COUNT)).clone((7,)),
    "immutable": lambda add: group(add.si(i) for i in range(COUNT)).clone((7,)),
    "own ids": lambda add: group(add.s(i).set(root_id="root", shadow=f"number {i}") for i in range(COUNT)),
    "mixed": lambda add: group(add.s(i).set(queue="ab"[i // 3]) for i in range(COUNT)),
}


def both(app: Umbel, make: Make, monkeypatch: pytest.MonkeyPatch) -> tuple[list[Any], list[Any]]:
    canvas = make(app.tasks["add"])
    canvas.freeze()
    with VirtualClock(1e9), monkeypatch.context() as changed:
        made = [shown(message) for message in canvas.messages(app)[0]]
        changed.setattr(bulk.Alike, "message", lambda *_: None)
        return made, [shown(message) for message in canvas.messages(app)[0]]


@pytest.mark.parametrize("shape", SHAPES)
def test_the_same_as_one_by_one(app: Umbel, shape: str, monkeypatch: pytest.MonkeyPatch) -> None:
    made, expected = both(app, SHAPES[shape], monkeypatch)
    assert len(made) == COUNT
    assert made == expected


def test_only_two_messages_are_prepared(app: Umbel, monkeypatch: pytest.MonkeyPatch) -> None:
    prepared: list[str] = []

    def count(app: Umbel, name: str, *args: Any) -> Message:
        prepared.append(name)
        return prepare(app, name, *args)

    monkeypatch.setattr("umbel.templates.prepare", count)
    for shape in ("plain", "chord", "stamps"):
        prepared.clear()
        SHAPES[shape](app.tasks["add"]).messages(app)
        assert prepared == ["add", "add"], shape


def test_the_same_inside_a_task(app: Umbel, monkeypatch: pytest.MonkeyPatch) -> None:
    token = push_request(Request(id="parent", root_id="root", called_directly=False, owner_task=app.tasks["add"]))
    try:
        made, expected = both(app, SHAPES["plain"], monkeypatch)
    finally:
        pop_request(token)
    assert made == expected
    assert dict(made[3]["headers"])["parent_id"] == "parent"


def test_not_where_somebody_may_change_each_message(app: Umbel) -> None:
    class Priorities(Middleware):
        def publish(self, call: Any, next: Any, /) -> Any:
            call.options["priority"] = call.args[0]
            return next(call)

    app.middleware.add(Priorities())
    assert [message.priority for message in SHAPES["plain"](app.tasks["add"]).messages(app)[0]] == list(range(COUNT))


def test_not_where_somebody_listens(app: Umbel) -> None:
    told: list[str] = []

    def listen(sender: Any, headers: Any, **_: Any) -> None:
        told.append(headers["id"])

    before_task_publish.connect(listen)
    try:
        messages = SHAPES["plain"](app.tasks["add"]).messages(app)[0]
    finally:
        before_task_publish.disconnect(listen)
    assert told == [message.id for message in messages]


def test_not_where_routes_look_at_arguments(app: Umbel) -> None:
    app.conf.task_routes = [lambda name, args, kwargs, options, task=None: {"queue": f"q{args[0] % 2}"}]
    queues = [message.queue for message in SHAPES["plain"](app.tasks["add"]).messages(app)[0]]
    assert queues == ["q0", "q1"] * (COUNT // 2)


def test_what_cannot_be_sent_leaves_nothing_sent(app: Umbel) -> None:
    add = app.tasks["add"]
    with pytest.raises(EncodeError, match="set"):
        group([*(add.s(i) for i in range(5000)), add.s({1})]).apply_async()
    with pytest.raises(EncodeError):
        chord([add.s(1), add.s(2)], add.s({1})).apply_async()
    app.conf.message_max_bytes = 2000
    with pytest.raises(MessageTooLarge, match="message_max_bytes"):
        group([*(add.s(i) for i in range(5)), add.s("x" * 3000)]).apply_async()
    app.conf.canvas_max_size = 9
    with pytest.raises(InvalidCanvas, match="canvas_max_size"):
        group(add.s(i) for i in range(10)).apply_async()
    assert app.broker.size("celery").ready == 0
    assert len(group(add.s(i) for i in range(9)).apply_async()) == 9
