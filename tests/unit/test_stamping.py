"""Stamps: on the wire as Celery writes them, seen by tasks, handed on, and what tasks are revoked by."""

from __future__ import annotations

import json
import secrets
from collections.abc import Iterator
from typing import Any

import pytest

from umbel import StampingVisitor, Umbel, chain, chord, group
from umbel.brokers.base import Settlement
from umbel.control import revocations_of
from umbel.errors import InvalidTaskError
from umbel.execution import execute_message
from umbel.message import Message, decode_headers
from umbel.revocations import stamps_in, stamps_of

Seen = list[tuple[Any, dict[str, Any]]]


class Tenant(StampingVisitor):
    """Stamps every call with a tenant and its own name."""

    def on_signature(self, sig: Any, **headers: Any) -> dict[str, Any]:
        return {"tenant": "acme", "name": sig.task}

    def on_callback(self, callback: Any, **headers: Any) -> dict[str, Any]:
        return {"linked": True}


@pytest.fixture
def seen() -> Seen:
    """(first argument, stamps) of every call of ``look``."""
    return []


@pytest.fixture
def app(seen: Seen) -> Iterator[Umbel]:
    url = f"memory://{secrets.token_hex(6)}"
    with Umbel("stamping", broker=url, backend=url) as made:

        @made.task(name="look", bind=True, max_retries=2, default_retry_delay=0)
        def look(self: Any, value: Any = None, retry: bool = False) -> Any:
            assert sorted(self.request.stamped_headers or ()) == sorted(self.request.stamps or ())
            seen.append((value, dict(self.request.stamps or {})))
            if retry and not self.request.retries:
                raise self.retry()
            return value

        @made.task(name="become", bind=True)
        def become(self: Any, sig: Any) -> Any:
            return self.replace(sig)

        yield made


def drain(app: Umbel) -> None:
    """Run everything that is in the queues."""
    with app.broker.consumer([*app.queues().values()], name="test") as consumer:
        while deliveries := consumer.receive(100, 0.02):
            for delivery in deliveries:
                out = execute_message(app, delivery.message)
                ended = (out.action, out.delay, False, out.reason, out.result, out.publish, out.parts, out.closes)
                consumer.settle([Settlement(delivery, *ended)])


def headers_of(message: Message) -> tuple[list[str], dict[str, Any]]:
    headers = decode_headers(message.headers)
    return sorted(headers["stamped_headers"] or ()), headers["stamps"]


def test_stamps_are_headers_of_their_own_and_seen_by_the_task(app: Umbel, seen: Seen) -> None:
    look = app.tasks["look"]
    look.apply_async((1,), stamped_headers=["tenant"], tenant="acme")
    look.s(2).stamp(tenant="acme", tags=["a", "b"]).apply_async()
    look.s(3).apply_async()
    plain, many, none = app.broker.peek("celery")
    assert headers_of(plain) == (["tenant"], {"tenant": "acme"})
    assert headers_of(many) == (["tags", "tenant"], {"tenant": "acme", "tags": ["a", "b"]})
    assert headers_of(none) == ([], {})
    drain(app)
    assert seen == [(1, {"tenant": "acme"}), (2, {"tenant": "acme", "tags": ["a", "b"]}), (3, {})]


def test_every_part_of_a_canvas_is_stamped(app: Umbel, seen: Seen) -> None:
    look = app.tasks["look"]
    whole = chain(look.si("first"), group(look.si("a"), look.si("b")), look.si("body")) | look.si("last")
    whole.tasks[-1].link(look.si("callback"))
    whole.stamp(Tenant(), batch=7)
    whole.apply_async()
    drain(app)
    stamps = {"tenant": "acme", "name": "look", "batch": 7}
    expected = [(value, stamps) for value in ("first", "a", "b", "body", "last")]
    assert seen == [*expected, ("callback", {**stamps, "linked": True})]


def test_stamps_given_to_a_group_and_those_of_its_members_come_together(app: Umbel, seen: Seen) -> None:
    look = app.tasks["look"]
    members = [look.s(number).stamp(own=number) for number in range(3)]
    group([*members, look.s(3)]).apply_async(stamped_headers=["batch"], batch=7)
    chord([look.s(4), look.s(5)], look.si(6)).stamp(batch=8).apply_async()
    drain(app)
    own = [(number, {"own": number, "batch": 7}) for number in range(3)]
    assert seen == [*own, (3, {"batch": 7}), *((number, {"batch": 8}) for number in (4, 5, 6))]


def test_retries_keep_them(app: Umbel, seen: Seen) -> None:
    app.tasks["look"].s(1, retry=True).stamp(tenant="acme").apply_async()
    drain(app)
    assert seen == [(1, {"tenant": "acme"})] * 2


def test_what_takes_the_place_of_a_task_inherits_them(app: Umbel, seen: Seen) -> None:
    look, become = app.tasks["look"], app.tasks["become"]
    become.s(chord([look.si(1), look.si(2).stamp(tenant="own")], look.si(3))).stamp(tenant="acme", x=1).apply_async()
    drain(app)
    inherited = {"tenant": "acme", "x": 1}
    assert seen == [(1, inherited), (2, {"tenant": "own", "x": 1}), (3, inherited)]


def test_on_replace_may_stamp_what_takes_the_place(app: Umbel, seen: Seen) -> None:
    class Stamping(app.Task):
        def on_replace(self, sig: Any) -> Any:
            return super().on_replace(sig.stamp(replaced=self.name))

    @app.task(bind=True, base=Stamping, name="become.stamped")
    def become(self: Any, value: int) -> Any:
        return self.replace(app.tasks["look"].si(value) | app.tasks["look"].si(value + 1))

    result = become.delay(1)
    drain(app)
    assert result.get(timeout=5) == 2
    assert seen == [(value, {"replaced": "become.stamped"}) for value in (1, 2)]


def test_eager_tasks_see_them(app: Umbel, seen: Seen) -> None:
    app.tasks["look"].s(1).stamp(tenant="acme").apply()
    assert seen == [(1, {"tenant": "acme"})]


def test_stamps_as_they_are_revoked(app: Umbel) -> None:
    assert stamps_in({"a": "x", "b": [1, "1"]}) == [("a", '"x"'), ("b", "1"), ("b", '"1"')]
    assert stamps_in(["a=x", "b=y=z"]) == [("a", '"x"'), ("b", '"y=z"')]
    assert stamps_in({"a": {"z": 1, "b": None}}) == stamps_in({"a": {"b": None, "z": 1}})
    for wrong in ("a=x", ["a"], {1: 2}, {"": 1}, {"a": object()}, None, 7):
        with pytest.raises(InvalidTaskError):
            app.control.revoke_by_stamped_headers(wrong)
    message, _ = app.tasks["look"].s(1).stamp(a="x", b=[1, "1"]).messages(app)
    assert set(stamps_of(message[0])) == {("a", '"x"'), ("b", "1"), ("b", '"1"')}
    assert stamps_of(app.tasks["look"].s(1).messages(app)[0][0]) == []


def test_a_revocation_by_stamp_is_noted_and_broadcast_as_celery_does(app: Umbel) -> None:
    listener = app.broker.listen("celery.pidbox")
    try:
        app.control.revoke_by_stamped_headers({"tenant": ["acme", "initech"]}, terminate=True, signal="KILL")
        (note,) = listener.receive(5)
    finally:
        listener.close()
    store = revocations_of(app)
    assert store is not None
    ((noted,),) = (store.since(0.0)[1],)
    assert noted.revocation.stamps == (("tenant", '"acme"'), ("tenant", '"initech"'))
    assert (noted.revocation.task_ids, noted.revocation.signal) == ((), "SIGKILL")
    assert json.loads(note.body) == {
        "method": "revoke_by_stamped_headers",
        "arguments": {"headers": {"tenant": ["acme", "initech"]}, "terminate": True, "signal": "SIGKILL"},
        "destination": None,
        "pattern": None,
        "matcher": None,
    }
