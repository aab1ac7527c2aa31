"""SQL databases that fail: a full disk, an answer lost after its commit, a forked child."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy

from conformance.waiting import assert_prompt, timed
from umbel.backends.base import Meta
from umbel.backends.sql import SQLBackend
from umbel.brokers.base import Action, Settlement
from umbel.brokers.sql import SQLBroker
from umbel.brokers.sql.database import Link
from umbel.errors import OperationalError
from umbel.message import Headers, Message, encode_headers, new_id
from umbel.queues import Queue
from workers import wait_for


def make(queue: str, body: bytes = b"[]") -> Message:
    id = new_id()
    return Message(id=id, task="t", queue=queue, headers=encode_headers(Headers(task="t", id=id)), body=body)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "db.sqlite"


@pytest.fixture(params=["postgresql", "mariadb"])
def url(request: pytest.FixtureRequest, fresh_url: Callable[[str], str]) -> str:
    return fresh_url(request.param)


@pytest.fixture
def lose_answer(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[str], None]]:
    """``lose_answer("COMMIT")``: the next statement that contains this is executed, and then the connection breaks."""
    run, rows = Link.run, Link.rows
    awaited: list[str] = []

    def breaking(original: Callable[..., Any]) -> Callable[..., Any]:
        def execute(self: Link, sql: str, values: Any = ()) -> Any:
            answer = original(self, sql, values)
            if awaited and awaited[0] in sql:
                awaited.clear()
                self.driver.close()
                raise OperationalError("the connection broke")
            return answer

        return execute

    monkeypatch.setattr(Link, "run", breaking(run))
    monkeypatch.setattr(Link, "rows", breaking(rows))
    yield awaited.append
    assert not awaited, "no statement like that was executed"


def test_full_disk_is_a_clear_error_and_loses_nothing(path: Path) -> None:
    limits = {"pages": 1_000_000}

    def limit(connection: Any, _record: Any) -> None:
        connection.execute(f"PRAGMA max_page_count={limits['pages']}")

    broker = SQLBroker(f"sqlite:///{path}")
    backend = SQLBackend(f"sqlite:///{path}")
    sqlalchemy.event.listen(broker.database.engine, "connect", limit)
    broker.publish([make("other"), *(make("q", str(n).encode()) for n in range(20))])
    with broker.consumer([Queue("q")], name="w", lease=60.0) as consumer:
        held = consumer.receive(10, 1.0)
        broker.database.engine.dispose()
        limits["pages"] = path.stat().st_size // 4096 + 4
        result = backend.encode(Meta(task_id="big", status="SUCCESS", result="x" * 1_000_000))
        full = SQLBroker(f"sqlite:///{path}")
        sqlalchemy.event.listen(full.database.engine, "connect", limit)
        with pytest.raises(OperationalError, match="full"):
            full.publish([make("q", bytes(1_000_000))], timeout=0.3)
        assert full.size("q").ready == 10
        with full.consumer([Queue("other")], name="w2", lease=60.0) as other:
            (small,) = other.receive(1, 1.0)
            settlement = Settlement(small, result=result)
            with pytest.raises(OperationalError, match="full"):
                other.settle([settlement])
            assert full.size("other").held == 1
            limits["pages"] = 1_000_000
            full.database.engine.dispose()
            assert other.settle([settlement]).stale == []
        full.publish([make("q", bytes(1_000_000))], timeout=5.0)
        full.close()
        assert consumer.settle([Settlement(delivery) for delivery in held]).stale == []
    assert broker.size("q").ready == 11
    assert backend.get(["big"])["big"].result == "x" * 1_000_000
    backend.close()
    broker.close()


@pytest.mark.parametrize("statement", ["WITH first", "COMMIT"])
def test_publish_whose_answer_is_lost_is_not_sent_twice(
    url: str, statement: str, lose_answer: Callable[[str], None]
) -> None:
    broker = SQLBroker(url)
    broker.publish([make("q", b"0")])
    if (broker.database.kind == "postgresql") != (statement == "WITH first"):
        pytest.skip("this system publishes by another statement")
    lose_answer(statement)
    broker.publish([make("q", b"1"), make("q", b"2")])
    broker.publish([make("q", b"3")])
    assert [message.body for message in broker.peek("q")] == [b"0", b"1", b"2", b"3"]
    broker.close()


def test_what_a_lost_answer_claimed_goes_back_when_nobody_asks_for_it(
    url: str, lose_answer: Callable[[str], None]
) -> None:
    """As in a worker whose lanes are all busy for long: it settles nothing and receives nothing."""
    broker = SQLBroker(url)
    broker.publish([make("q", str(n).encode()) for n in range(4)])
    with broker.consumer([Queue("q")], name="w", lease=60.0) as consumer:
        (first,) = consumer.receive(1, 1.0)
        lose_answer("COMMIT")
        with pytest.raises(OperationalError):
            consumer.settle([Settlement(first)], want=2)
        assert (broker.size("q").ready, broker.size("q").held) == (1, 2)

        def returned() -> bool:
            return consumer.renew() and broker.size("q").ready == 3

        wait_for(returned)
        claimed = consumer.receive(4, 1.0)
        assert sorted((delivery.message.body, delivery.deliveries) for delivery in claimed) == [
            (b"1", 0),
            (b"2", 0),
            (b"3", 0),
        ]
    broker.close()


def test_settle_whose_answer_is_lost_is_repeated_without_harm(url: str, lose_answer: Callable[[str], None]) -> None:
    broker, backend = SQLBroker(url), SQLBackend(url)
    broker.publish([make("q", str(n).encode()) for n in range(8)])
    with broker.consumer([Queue("q")], name="w", lease=60.0) as consumer:
        held = consumer.receive(4, 1.0)
        assert consumer.settle([Settlement(held[3])]).stale == []
        settlements = [
            Settlement(held[0], result=backend.encode(Meta(task_id="a", status="SUCCESS", result=1))),
            Settlement(held[1], publish=(make("next"),)),
            Settlement(held[2], action=Action.REQUEUE, delay=3600.0),
            Settlement(held[3]),
        ]
        lose_answer("COMMIT")
        with pytest.raises(OperationalError):
            consumer.settle(settlements, want=2)
        again = consumer.settle(settlements, want=0)
        assert again.stale == [settlements[3]]
        claimed = consumer.receive(2, 5.0)
        assert [delivery.message.body for delivery in claimed] == [b"4", b"5"]
        assert consumer.settle([Settlement(delivery) for delivery in claimed]).stale == []
        assert len(consumer.settle(settlements).stale) == 4
    assert broker.size("next").ready == 1
    assert (broker.size("q").delayed, broker.size("q").ready) == (1, 2)
    assert backend.get(["a"])["a"].result == 1
    broker.close()
    backend.close()


def test_batch_that_was_not_committed_is_done_by_its_repetition(url: str, lose_answer: Callable[[str], None]) -> None:
    broker = SQLBroker(url)
    broker.publish([make("q") for _ in range(3)])
    with broker.consumer([Queue("q")], name="w", lease=60.0) as consumer:
        settlements = [Settlement(delivery, publish=(make("next"),)) for delivery in consumer.receive(3, 1.0)]
        lose_answer("DELETE")
        with pytest.raises(OperationalError):
            consumer.settle(settlements)
        assert consumer.settle(settlements).stale == []
    assert (broker.size("q").held, broker.size("next").ready) == (0, 3)
    broker.close()


@pytest.mark.parametrize("place", ["sqlite", "postgresql", "mariadb"])
def test_forked_child_leaves_the_parents_connections_alone(
    place: str, path: Path, fresh_url: Callable[[str], str]
) -> None:
    broker = SQLBroker(f"sqlite:///{path}" if place == "sqlite" else fresh_url(place))
    broker.publish([make("q", b"parent")])
    pid = os.fork()
    if not pid:
        status = 1
        try:
            broker.after_fork()
            broker.publish([make("q", b"child")])
            broker.close()
            status = 0
        finally:
            os._exit(status)
    assert os.waitpid(pid, 0)[1] == 0
    broker.publish([make("q", b"parent again")])
    assert [message.body for message in broker.peek("q")] == [b"parent", b"child", b"parent again"]
    broker.close()


def test_declaring_in_a_locked_file_ends_in_time(path: Path) -> None:
    broker = SQLBroker(f"sqlite:///{path}")
    broker.declare(Queue("first"))
    engine = sqlalchemy.create_engine(f"sqlite:///{path}")
    with engine.connect() as other:
        other.exec_driver_sql("BEGIN IMMEDIATE")

        def fail() -> None:
            with pytest.raises(OperationalError, match="locked"):
                broker.declare(Queue("second"), timeout=0.5)

        assert_prompt(1.0, lambda: timed(fail))
    engine.dispose()
    broker.declare(Queue("second"), timeout=0.5)
    broker.close()
