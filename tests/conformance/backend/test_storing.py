"""Storing and reading: what was stored is read, whole, by everybody."""

from __future__ import annotations

import datetime
import decimal
import uuid
from collections.abc import Callable
from typing import Any

import pytest

from conformance.backend.conftest import Connect, Sender
from conformance.drivers import Driver
from conformance.waiting import Child
from umbel.backends.base import Backend, Features
from umbel.codecs.exceptions import decode_exception, encode_exception
from umbel.errors import EncodeError, TaskRevokedError
from umbel.message import new_id
from workers import wait_for

PLAIN: list[Any] = [
    None,
    True,
    False,
    0,
    -1,
    2**53,
    1.5,
    "",
    'Ünïcødé \U0001f33c "quoted" \\ \n\x00',
    [],
    {},
    [1, ["two", None, {"three": 3.0}]],
    {"a": {"b": [1, 2, 3]}, "": "empty key"},
    "x" * 1_000_000,
]
TYPED: list[Any] = [
    datetime.datetime(2026, 11, 22, 18, 12, 20, 271143, tzinfo=datetime.UTC),
    datetime.date(2026, 2, 28),
    uuid.UUID("01234567-89ab-cdef-0123-456789abcdef"),
    decimal.Decimal("1.50"),
    b"\x00\xff bytes",
]


def test_unknown_ids_are_left_out(backend: Backend) -> None:
    assert backend.get([]) == {}
    assert backend.get([new_id(), new_id()]) == {}


@pytest.mark.parametrize("value", PLAIN, ids=lambda value: repr(value)[:20].encode("ascii", "replace").decode())
def test_values_in_every_serializer(connect: Connect, value: Any) -> None:
    for name in ("json", "pickle", "yaml", "msgpack"):
        if name == "yaml" and isinstance(value, str) and len(value) > 1000:
            continue
        sender = Sender(connect(serializer=name, accept=(name,)))
        (task,) = sender.new(1)
        sender.store(task, "SUCCESS", value)
        meta = sender.read(task)
        assert (meta.status, meta.result) == ("SUCCESS", value), name


@pytest.mark.parametrize("value", TYPED, ids=lambda value: type(value).__name__)
def test_typed_values(connect: Connect, value: Any) -> None:
    for name in ("json", "pickle"):
        sender = Sender(connect(serializer=name, accept=(name,)))
        (task,) = sender.new(1)
        sender.store(task, "SUCCESS", value)
        got = sender.read(task).result
        assert got == value, name
        assert type(got) is type(value), name


@pytest.mark.parametrize("compression", ["gzip", "zlib", "bzip2", "lzma"])
def test_compressed_results(connect: Connect, compression: str) -> None:
    sender = Sender(connect(compression=compression))
    (task,) = sender.new(1)
    encoded = sender.encode(task, "SUCCESS", ["compress me"] * 1000)
    sender.backend.store([encoded])
    assert sender.read(task).result == ["compress me"] * 1000


@pytest.mark.parametrize("state", ["FAILURE", "REVOKED"])
@pytest.mark.parametrize("serializer", ["json", "pickle", "yaml", "msgpack"])
@pytest.mark.parametrize("error", [ValueError("wrong", 3), KeyError("ключ"), TaskRevokedError("expired")], ids=repr)
def test_exceptions(connect: Connect, state: str, serializer: str, error: Exception) -> None:
    sender = Sender(connect(serializer=serializer, accept=(serializer,)))
    (task,) = sender.new(1)
    traceback = 'Traceback (most recent call last):\n  File "ä.py", line 1\n'
    sender.store(task, state, encode_exception(error, serializer), traceback=traceback)
    meta = sender.read(task)
    assert meta.status == state
    assert meta.traceback == traceback
    rebuilt = decode_exception(meta.result)
    assert type(rebuilt) is type(error)
    assert rebuilt.args == error.args


def test_all_fields(sender: Sender) -> None:
    (task,) = sender.new(1)
    done = "2026-11-22T18:12:20.271143+00:00"
    children = [[[new_id(), task], None], [[new_id(), task], [[[new_id(), None], None]]]]
    group, parent = new_id(), new_id()
    sender.store(task, "SUCCESS", 1, date_done=done, children=children, group_id=group, parent_id=parent)
    meta = sender.read(task)
    assert meta.task_id == task
    assert as_lists(meta.children) == children
    assert meta.date_done is not None
    assert moment(meta.date_done) == moment(done)


def test_group_and_parent(sender: Sender, driver: Driver) -> None:
    if not driver.keeps_lineage:
        pytest.skip("Celery's format of this store has no place for them")
    (task,) = sender.new(1)
    group, parent = new_id(), new_id()
    sender.store(task, "SUCCESS", 1, group_id=group, parent_id=parent)
    meta = sender.read(task)
    assert (meta.group_id, meta.parent_id) == (group, parent)


def test_extended_fields(connect: Connect) -> None:
    sender = Sender(connect(extended=True))
    (task,) = sender.new(1)
    fields: dict[str, Any] = {
        "name": "tasks.add",
        "args": [1, "zwei"],
        "kwargs": {"c": None},
        "worker": "worker@höst",
        "retries": 2,
        "queue": "celery",
        "stamps": {"tenant": "x", "list": ["a", "b"]},
    }
    sender.store(task, "SUCCESS", 1, **fields)
    meta = sender.read(task)
    assert {name: as_lists(getattr(meta, name)) for name in fields} == fields


def moment(text: str) -> datetime.datetime:
    """A moment; one without offset is UTC."""
    value = datetime.datetime.fromisoformat(text)
    return value if value.tzinfo else value.replace(tzinfo=datetime.UTC)


def as_lists(value: Any) -> Any:
    """``value`` with tuples as lists: serializers may keep them or not."""
    if isinstance(value, (list, tuple)):
        return [as_lists(item) for item in value]
    return value


@pytest.mark.parametrize("state", ["STARTED", "RETRY", "PROGRESS"])
def test_states_that_are_not_ready(sender: Sender, state: str) -> None:
    (task,) = sender.new(1)
    sender.store(task, state, {"done": 1, "total": 3})
    meta = wait_for(lambda: sender.backend.get([task]))[task]
    assert (meta.status, meta.result, meta.ready) == (state, {"done": 1, "total": 3}, False)


def test_later_state_replaces_earlier(sender: Sender) -> None:
    (task,) = sender.new(1)
    for state in ("STARTED", "RETRY", "STARTED", "FAILURE"):
        sender.store(task, state, {"exc_type": state})
    assert sender.read(task).result == {"exc_type": "FAILURE"}


def test_success_replaces_failure(sender: Sender) -> None:
    (task,) = sender.new(1)
    sender.store(task, "FAILURE", {"exc_type": "WorkerLostError"})
    sender.store(task, "SUCCESS", 5)
    wait_for(lambda: [meta.status for meta in sender.backend.get([task]).values()] == ["SUCCESS"])
    assert sender.read(task).result == 5


@pytest.mark.parametrize("state", ["STARTED", "RETRY", "FAILURE", "REVOKED", "SUCCESS"])
def test_success_is_never_overwritten(sender: Sender, state: str) -> None:
    task, marker = sender.new(2)
    sender.store(task, "SUCCESS", "first")
    if state != "SUCCESS":
        sender.store(task, state, {"exc_type": "E"})
    sender.backend.store([sender.encode(marker, "SUCCESS"), sender.encode(task, "STARTED", None)])
    sender.read(marker)
    assert sender.backend.get([task])[task].status == "SUCCESS"
    assert sender.read(task).result == "first"


def test_success_is_kept_within_one_call(sender: Sender) -> None:
    (task,) = sender.new(1)
    states = ("STARTED", "SUCCESS", "FAILURE")
    sender.backend.store([sender.encode(task, state, {"state": state}) for state in states])
    assert sender.read(task).status == "SUCCESS"
    assert sender.backend.get([task])[task].result == {"state": "SUCCESS"}


def test_bulk(sender: Sender) -> None:
    ids = sender.new(2_000)
    sender.backend.store([sender.encode(id, "SUCCESS", n) for n, id in enumerate(ids)])
    results: dict[str, Any] = {}
    assert sender.backend.wait(ids, 30.0, lambda meta: results.__setitem__(meta.task_id, meta.result))
    assert results == {id: n for n, id in enumerate(ids)}
    assert len(sender.backend.get(ids)) == 2_000


def test_storing_nothing(backend: Backend) -> None:
    backend.store([])


def test_any_text_is_an_id(sender: Sender) -> None:
    ids = ["просто-id-" + new_id(), "with 'quotes\" % \\ " + new_id(), "A" * 100 + new_id()]
    sender.new(1)
    sender.backend.on_publish(ids)
    for number, task in enumerate(ids):
        sender.store(task, "SUCCESS", number)
    assert [sender.read(task).result for task in ids] == [0, 1, 2]


def test_unserializable_result_is_an_encode_error(sender: Sender) -> None:
    (task,) = sender.new(1)
    with pytest.raises(EncodeError, match="object"):
        sender.encode(task, "SUCCESS", {"deep": [object()]})
    assert sender.backend.get([task]) == {}


def test_another_backend_object_reads_it(sender: Sender, connect: Connect, driver: Driver) -> None:
    (task,) = sender.new(1)
    sender.store(task, "SUCCESS", 1)
    sender.read(task)
    if driver.one_reader:
        pytest.skip("a result goes to the one who asked for it")
    assert connect().get([task])[task].result == 1


def test_other_processes_read_and_store(sender: Sender, child: Callable[..., Child]) -> None:
    ids = sender.new(20)
    assert child("store", ids=ids[:10]).rest() == ["stored"]
    assert [meta.result for meta in (sender.read(id) for id in ids[:10])] == list(range(10))
    sender.store(ids[10], "SUCCESS", "ü")
    assert child("get", ids=ids).rest() == [{**{id: n for n, id in enumerate(ids[:10])}, ids[10]: "ü"}]


def test_forget(sender: Sender) -> None:
    ids = sender.new(3)
    for task in ids:
        sender.store(task, "SUCCESS", 1)
        sender.read(task)
    sender.backend.forget(ids[:2])
    assert list(sender.backend.get(ids)) == [ids[2]]
    sender.backend.forget(ids)
    sender.backend.forget([])
    assert sender.backend.get(ids) == {}


def test_groups(backend: Backend, connect: Connect, features: Features) -> None:
    if not features.groups:
        pytest.skip("this store has no groups")
    group, document = new_id(), {"result": [[new_id(), None], [[[new_id(), None], None]]]}
    assert backend.restore_group(group) is None
    backend.save_group(group, document)
    assert as_lists(connect().restore_group(group)) == document
    backend.save_group(group, {"result": []})
    assert backend.restore_group(group) == {"result": []}
    backend.delete_group(group)
    backend.delete_group(group)
    assert backend.restore_group(group) is None


def test_backend_works_again_after_close(sender: Sender) -> None:
    sender.backend.close()
    sender.backend.close()
    (task,) = sender.new(1)
    sender.store(task, "SUCCESS", 1)
    assert sender.read(task).result == 1
