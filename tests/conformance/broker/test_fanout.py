"""Fan-out: all who listen hear everything from then on, in order, filtered by their pattern."""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable, Iterator

import pytest

from conformance.broker.conftest import Connect
from conformance.waiting import Running, assert_prompt
from umbel.brokers.base import Broker, Listener, Note

Listen = Callable[..., Listener]


@pytest.fixture
def exchange() -> str:
    return f"fan-{secrets.token_hex(6)}"


@pytest.fixture
def listen(broker: Broker, exchange: str) -> Iterator[Listen]:
    """A factory of listeners, closed after the test."""
    opened: list[Listener] = []

    def make(pattern: str = "#", broker: Broker = broker) -> Listener:
        listener = broker.listen(exchange, pattern)
        opened.append(listener)
        return listener

    yield make
    for listener in opened:
        listener.close()


def hear(listener: Listener, count: int, timeout: float = 10.0) -> list[bytes]:
    heard: list[Note] = []
    deadline = time.monotonic() + timeout
    while len(heard) < count:
        assert time.monotonic() < deadline, f"heard only {len(heard)} of {count}"
        heard += listener.receive(0.5)
    return [note.body for note in heard]


def test_all_listeners_hear_all_in_order(broker: Broker, connect: Connect, listen: Listen, exchange: str) -> None:
    listeners = [listen(), listen(), listen(broker=connect())]
    sent = [str(number).encode() for number in range(200)]
    for body in sent:
        broker.broadcast(exchange, Note(body))
    for listener in listeners:
        assert hear(listener, 200) == sent


def test_note_arrives_whole(broker: Broker, listen: Listen, exchange: str) -> None:
    listener = listen()
    sent = Note(b"\x00\xff\n", {"clock": 7, "hostname": "ä"}, "application/x-python-serialize", "binary", "worker.x")
    broker.broadcast(exchange, sent)
    (got,) = listener.receive(5.0)
    assert got.body == sent.body
    assert {name: got.headers.get(name) for name in sent.headers} == sent.headers
    assert (got.content_type, got.content_encoding) == (sent.content_type, sent.content_encoding)
    assert got.routing_key == "worker.x"


def test_nothing_from_before(broker: Broker, listen: Listen, exchange: str) -> None:
    broker.broadcast(exchange, Note(b"before"))
    listener = listen()
    broker.broadcast(exchange, Note(b"after"))
    assert hear(listener, 1) == [b"after"]
    assert listener.receive(0.2) == []


@pytest.mark.parametrize(
    ("pattern", "heard"),
    [
        ("#", [b"task.sent", b"task.failed", b"worker.online", b"task", b"task.a.b", b""]),
        ("task.*", [b"task.sent", b"task.failed"]),
        ("task.#", [b"task.sent", b"task.failed", b"task", b"task.a.b"]),
        ("*.online", [b"worker.online"]),
        ("task.sent", [b"task.sent"]),
        ("#.b", [b"task.a.b"]),
    ],
)
def test_pattern_filters(broker: Broker, listen: Listen, exchange: str, pattern: str, heard: list[bytes]) -> None:
    filtered, everything = listen(pattern), listen()
    keys = ["task.sent", "task.failed", "worker.online", "task", "task.a.b", ""]
    for key in keys:
        broker.broadcast(exchange, Note(key.encode(), routing_key=key))
    assert hear(filtered, len(heard)) == heard
    assert hear(everything, len(keys)) == [key.encode() for key in keys]
    assert filtered.receive(0.2) == []


def test_exchanges_are_apart(broker: Broker, listen: Listen, exchange: str) -> None:
    listener = listen()
    broker.broadcast(f"{exchange}-other", Note(b"other"))
    broker.broadcast(exchange, Note(b"own"))
    assert hear(listener, 1) == [b"own"]


def test_broadcast_to_nobody(broker: Broker, exchange: str) -> None:
    broker.broadcast(exchange, Note(b"nobody"))


def test_receive_waits_for_the_first(broker: Broker, listen: Listen, exchange: str) -> None:
    listener = listen()

    def in_vain() -> float:
        before = time.monotonic()
        assert listener.receive(0.4) == []
        waited = time.monotonic() - before
        assert waited >= 0.3
        return waited

    def woken() -> float:
        waiting = Running(lambda: listener.receive(10.0))
        sent = time.time()
        broker.broadcast(exchange, Note(b"now"))
        assert [note.body for note in waiting.result()] == [b"now"]
        return waiting.ended - sent

    assert_prompt(1.0, in_vain)
    assert_prompt(1.0, woken)


def test_slow_listener_loses_nothing(broker: Broker, listen: Listen, exchange: str) -> None:
    listener = listen()
    for number in range(1_000):
        broker.broadcast(exchange, Note(str(number).encode()))
    assert hear(listener, 1_000, 20.0) == [str(number).encode() for number in range(1_000)]


def test_large_note(broker: Broker, listen: Listen, exchange: str) -> None:
    listener = listen()
    body = secrets.token_bytes(1 << 20)
    broker.broadcast(exchange, Note(body))
    assert hear(listener, 1) == [body]


def test_closed_listener(broker: Broker, listen: Listen, exchange: str) -> None:
    closed, other = listen(), listen()
    closed.close()
    closed.close()
    broker.broadcast(exchange, Note(b"1"))
    assert hear(other, 1) == [b"1"]
