"""Revoking: what clients may ask for, how it travels, and the gate that knows it."""

from __future__ import annotations

import base64
import re
import secrets
from collections.abc import Iterator
from typing import Any

import msgspec
import pytest

from umbel import Umbel
from umbel.brokers.base import Action, Broker, Delivery, Note, Settlement
from umbel.config import Settings
from umbel.control import command_note
from umbel.errors import DecodeError, InvalidTaskError, OperationalError, TaskRevokedError
from umbel.message import Message, new_id
from umbel.result import EagerResult
from umbel.revocations import (
    RECORD_SIZE,
    Noted,
    Revocation,
    encode_record,
    ids_of,
    read_records,
    records_of,
    signal_name,
)
from umbel.worker.gates import Gates
from umbel.worker.remote import Command, read_command

CELERY_BODY = (
    "eyJtZXRob2QiOiAicmV2b2tlIiwgImFyZ3VtZW50cyI6IHsidGFza19pZCI6ICIwMDAwMDAwMC0wMDAwLTQwMDAtODAwMC0wMDAwMDAwMDBi"
    "YWQiLCAidGVybWluYXRlIjogZmFsc2UsICJzaWduYWwiOiAiU0lHVEVSTSJ9LCAiZGVzdGluYXRpb24iOiBudWxsLCAicGF0dGVybiI6IG51"
    "bGwsICJtYXRjaGVyIjogbnVsbH0="
)
"""The body of ``app.control.revoke("00000000-0000-4000-8000-000000000bad")`` as Celery 5.7 sends it."""

BAD = "00000000-0000-4000-8000-000000000bad"


@pytest.fixture
def app() -> Iterator[Umbel]:
    with Umbel("revoking", broker=f"memory://{secrets.token_hex(6)}", set_as_current=False) as made:
        yield made


@pytest.fixture
def stored_app() -> Iterator[Umbel]:
    """The same, with results."""
    url = f"memory://{secrets.token_hex(6)}"
    with Umbel("revoking", broker=url, backend=url, set_as_current=False) as made:

        @made.task(name="add")
        def add(x: int, y: int) -> int:
            return x + y

        yield made


# -- what may be asked for --


@pytest.mark.parametrize("given", [None, 7, "", [""], ["a", None], {"a": 1}, object()])
def test_only_ids_are_taken(given: Any) -> None:
    with pytest.raises(InvalidTaskError, match="revoked by its id"):
        ids_of(given)


def test_ids_and_results_are_taken() -> None:
    assert ids_of("a") == ["a"]
    assert ids_of(["a", EagerResult("b", 1, "SUCCESS")]) == ["a", "b"]
    assert ids_of([]) == []


@pytest.mark.parametrize(
    ("given", "name"), [("SIGKILL", "SIGKILL"), ("kill", "SIGKILL"), (9, "SIGKILL"), (None, "SIGTERM")]
)
def test_signals_have_several_names(given: Any, name: str) -> None:
    assert signal_name(given) == name


@pytest.mark.parametrize("given", ["SIGNOTHING", 0, 9999, ""])
def test_an_unknown_signal_is_an_error(given: Any, app: Umbel) -> None:
    with pytest.raises(InvalidTaskError, match="no signal"):
        app.control.revoke("a", terminate=True, signal=given)


def test_records_name_each_task_once() -> None:
    ids = [str(number) for number in range(RECORD_SIZE + 1)]
    records = records_of(ids + ids, "SIGTERM", ["w1@x"])
    assert [len(record.task_ids) for record in records] == [RECORD_SIZE, 1]
    assert len({record.key for record in records}) == 2
    assert records[0].concerns("w1@x")
    assert not records[0].concerns("w2@x")


def test_a_time_of_zero_is_refused() -> None:
    with pytest.raises(Exception, match="task_revoke_expires"):
        Settings({"task_revoke_expires": 0}).load()


# -- how it travels --


def test_the_command_is_celerys() -> None:
    note = command_note("revoke", {"task_id": BAD, "terminate": False, "signal": "SIGTERM"})
    assert msgspec.json.decode(note.body) == msgspec.json.decode(base64.b64decode(CELERY_BODY))
    assert (note.content_type, note.content_encoding, note.routing_key) == ("application/json", "utf-8", "")
    assert set(note.headers) == {"clock", "expires"}


def test_celerys_command_is_read(app: Umbel) -> None:
    command = read_command(app, Note(base64.b64decode(CELERY_BODY), {"clock": 93, "expires": 0}))
    assert command.method == "revoke"
    assert command.arguments["task_id"] == BAD
    assert command.concerns("any@node")
    assert not command.limited


@pytest.mark.parametrize("body", [b"[]", b"{}", b'{"method": 7}', b"not JSON"])
def test_what_is_no_command_is_an_error(app: Umbel, body: bytes) -> None:
    with pytest.raises(DecodeError):
        read_command(app, Note(body))


def test_a_command_may_be_for_some_workers_only() -> None:
    named = Command("revoke", destination=("w1@x",))
    assert named.limited
    assert (named.concerns("w1@x"), named.concerns("w2@x")) == (True, False)
    glob = Command("revoke", pattern="w*@x", matcher="glob")
    assert (glob.concerns("w1@x"), glob.concerns("v@x")) == (True, False)
    pcre = Command("revoke", pattern="w[12]@", matcher="pcre")
    assert (pcre.concerns("w1@x"), pcre.concerns("w3@x")) == (True, False)
    with pytest.raises(re.error):
        Command("revoke", pattern="(", matcher="pcre").concerns("w1@x")


def test_clients_note_and_broadcast(app: Umbel) -> None:
    listener = app.broker.listen("celery.pidbox")
    app.control.revoke(["a", "b"], terminate=True, signal="KILL", destination="w1@x")
    (note,) = listener.receive(1.0)
    body = msgspec.json.decode(note.body)
    assert body["arguments"] == {"task_id": ["a", "b"], "terminate": True, "signal": "SIGKILL"}
    assert body["destination"] == ["w1@x"]
    store = app.broker.revocations()
    assert store is not None
    _, [noted] = store.since(0.0)
    assert noted.revocation == Revocation(noted.revocation.key, ("a", "b"), "SIGKILL", ("w1@x",))
    listener.close()


def test_a_revoke_of_nothing_does_nothing(app: Umbel) -> None:
    app.control.revoke([])
    store = app.broker.revocations()
    assert store is not None
    assert store.since(0.0)[1] == []


def test_a_broadcast_that_fails_is_no_error_once_it_is_noted(
    app: Umbel, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def fail(*_: Any) -> None:
        raise OperationalError("no way")

    monkeypatch.setattr(app.broker, "broadcast", fail)
    app.control.revoke("a")
    assert "noted but not broadcast" in caplog.text


def test_it_is_said_when_nobody_keeps_it(
    app: Umbel, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(type(app.broker), "revocations", Broker.revocations)
    app.control.revoke("a")
    assert "only workers that run now hear of this one" in caplog.text


# -- who waits is told at once --


@pytest.mark.parametrize("options", [{}, {"countdown": 60}], ids=["ready", "delayed"])
def test_tasks_that_wait_are_revoked_at_once(stored_app: Umbel, options: dict[str, Any]) -> None:
    result = stored_app.tasks["add"].apply_async((1, 2), **options)
    result.revoke()
    assert result.state == "REVOKED"
    with pytest.raises(TaskRevokedError, match="revoked"):
        result.get(timeout=1)


def test_tasks_that_are_held_or_unknown_keep_their_state(stored_app: Umbel) -> None:
    result = stored_app.tasks["add"].delay(1, 2)
    with stored_app.broker.consumer(stored_app.consume_queues(), name="w@x") as consumer:
        assert consumer.receive(1, 1.0)
        result.revoke()
        unknown = stored_app.AsyncResult(new_id())
        unknown.revoke(wait=True, timeout=0.05)
        assert result.state == unknown.state == "PENDING"


def test_a_result_that_is_there_is_kept(stored_app: Umbel) -> None:
    result = stored_app.tasks["add"].delay(1, 2)
    backend = stored_app.backend
    from umbel.backends.base import Meta

    backend.store([backend.encode(Meta(task_id=result.id, status="SUCCESS", result=3))])
    result.revoke()
    assert result.get(timeout=1) == 3


def test_groups_of_results_are_revoked_in_one(stored_app: Umbel) -> None:
    results = [stored_app.tasks["add"].apply_async((1, 2), countdown=60) for _ in range(3)]
    stored_app.ResultSet([*results, EagerResult("e", 1, "SUCCESS")]).revoke()
    assert [result.state for result in results] == ["REVOKED"] * 3
    store = stored_app.broker.revocations()
    assert store is not None
    assert len(store.since(0.0)[1]) == 1


def test_an_eager_result_changes_its_state() -> None:
    result: EagerResult[int] = EagerResult("e", 1, "SUCCESS")
    result.revoke()
    assert result.state == "REVOKED"
    with pytest.raises(TaskRevokedError):
        result.get()


# -- the gate --


class _Refusing:
    def judge(self, deliveries: Any) -> dict[int, Settlement]:
        return {id(each): Settlement(each, Action.ACK) for each in deliveries}

    def leave(self, messages: Any) -> None:
        """Nothing is kept."""


def test_a_gate_may_come_and_go(app: Umbel) -> None:
    gates, gate = Gates(), _Refusing()
    assert not gates
    gates.put_first(gate)
    gates.put_first(gate)
    delivery = Delivery(1, "q", Message(id="a", task="t", queue="q", headers=b"{}", body=b""))
    assert set(gates.judge([delivery])) == {id(delivery)}
    gates.remove(gate)
    gates.remove(gate)
    assert not gates
    assert gates.judge([delivery]) == {}


def test_a_record_that_cannot_be_read_is_left_out(caplog: pytest.LogCaptureFixture) -> None:
    record = records_of(["a"], "SIGKILL", ["w@x"])[0]
    newer = encode_record(record)[:-1] + b',"colour":{"a":1}}'
    assert read_records([(b"{}", 1.0), (newer, 2.0), (b"no JSON", 3.0)]) == [Noted(record, 2.0)]
    assert caplog.text.count("cannot be read") == 2
