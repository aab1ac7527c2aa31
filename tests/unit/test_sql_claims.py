"""What the SQL broker promises beyond the contract: plans that use indexes, the user's transaction, many queues."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest
import sqlalchemy
from sqlalchemy.orm import Session

from umbel.brokers.base import Options, Settlement
from umbel.brokers.sql import SQLBroker
from umbel.brokers.sql.database import Database
from umbel.message import Headers, Message, encode_headers, new_id
from umbel.queues import Queue


def make(queue: str, body: bytes = b"[]", priority: int = 0) -> Message:
    id = new_id()
    headers = encode_headers(Headers(task="t", id=id))
    return Message(id=id, task="t", queue=queue, headers=headers, body=body, priority=priority)


@pytest.fixture(params=["sqlite", "postgresql", "mariadb"])
def broker(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[SQLBroker]:
    if request.param == "sqlite":
        url = f"sqlite:///{tmp_path}/db.sqlite"
    else:
        url = str(request.getfixturevalue(f"{request.param}_url"))
    broker = SQLBroker(url, Options(key_prefix=f"t{new_id()[:8]}_"))
    yield broker
    broker.close()
    with broker.database.borrowed() as link:
        for table in broker.tables.metadata.tables:
            link.run(f"DROP TABLE IF EXISTS {table}")
    broker.close()


def plan(database: Database, sql: str, values: list[object]) -> str:
    with database.borrowed() as link:
        explain = "EXPLAIN QUERY PLAN " if database.kind == "sqlite" else "EXPLAIN "
        return "\n".join(" ".join(str(cell) for cell in row) for row in link.rows(explain + sql, values))


@pytest.mark.parametrize("queues", [1, 3])
def test_claim_reads_an_index_in_order_and_sorts_nothing(broker: SQLBroker, queues: int) -> None:
    names = [f"q{number}" for number in range(queues)]
    broker.publish([make(name) for name in names for _ in range(4000)])
    with broker.database.borrowed() as link:
        if broker.database.kind != "sqlite":
            table = broker.tables.messages.name
            link.rows(f"ANALYZE TABLE {table}") if broker.database.kind == "mysql" else link.run(f"ANALYZE {table}")
    shown = plan(broker.database, broker.dialect.picking(queues), broker.dialect.picked(names, 100))
    index = "messages_order" if broker.database.kind == "mysql" else "messages_ready"
    assert len(re.findall(rf"{index}(?: 1024| \(queue|  ?on )", shown)) == queues, shown
    sorts = queues if queues > 1 else 0  # of the few that were picked from each queue
    if broker.database.kind == "postgresql":
        assert "Seq Scan on" not in shown
        assert len(re.findall(r"-> +Sort ", shown)) == sorts, shown
    elif broker.database.kind == "sqlite":
        assert "SCAN umbel" not in shown
        assert shown.count("USE TEMP B-TREE") <= sorts + 1, shown


def test_message_belongs_to_the_users_transaction(broker: SQLBroker) -> None:
    broker.publish([make("other")])
    engine = sqlalchemy.create_engine(broker.database.url)
    with engine.connect() as connection:
        broker.publish([make("q", b"undone")], connection=connection)
        connection.rollback()
        broker.publish([make("q", b"done")], connection=connection)
        assert broker.size("q").ready == 0
        connection.commit()
    with Session(engine) as session:
        broker.publish([make("q", b"by a session")], connection=session)
        session.commit()
    engine.dispose()
    assert [message.body for message in broker.peek("q")] == [b"done", b"by a session"]
    assert "q" in broker.queues()


def test_consumer_is_woken_by_the_commit_of_the_user(broker: SQLBroker) -> None:
    engine = sqlalchemy.create_engine(broker.database.url)
    with broker.consumer([Queue("q")], name="w") as consumer:
        assert consumer.receive(1, 0.05) == []
        with engine.begin() as connection:
            broker.publish([make("q", b"now")], connection=connection)
        (delivery,) = consumer.receive(1, 5.0)
        assert delivery.message.body == b"now"
    engine.dispose()


def test_equally_urgent_messages_come_from_all_queues_alike(broker: SQLBroker) -> None:
    for name in ("a", "b", "c"):
        broker.publish([make(name) for _ in range(50)])
    broker.publish([make("c", b"urgent", priority=9)])
    with broker.consumer([Queue(name) for name in ("a", "b", "c")], name="w") as consumer:
        batch = consumer.receive(31, 1.0)
        assert batch[0].message.body == b"urgent"
        assert Counter(delivery.queue for delivery in batch) == {"a": 11, "b": 10, "c": 10}
        more = consumer.settle([Settlement(delivery) for delivery in batch], want=30).deliveries
        assert Counter(delivery.queue for delivery in more) == {"a": 10, "b": 10, "c": 10}
