"""The SQL result tables are Celery's, and the tables come into being once however many processes begin at once."""

from __future__ import annotations

import base64
import json
import re
import sqlite3
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from umbel.backends.base import Meta, Options
from umbel.backends.sql import SQLBackend
from umbel.brokers.base import Settlement
from umbel.brokers.sql import SQLBroker
from umbel.brokers.sql.database import database_url
from umbel.brokers.sql.tables import VERSION
from umbel.errors import BrokerError, ConfigurationError, ContentDisallowed
from umbel.message import Headers, Message, encode_headers, new_id
from umbel.queues import Queue

VECTORS = json.loads((Path(__file__).parents[1] / "data/wire/sql_results.json").read_text())
PUBLISH = """
import sys
from umbel.brokers import open_broker
from umbel.message import Headers, Message, encode_headers, new_id
from umbel.backends import open_backend
from umbel.backends.base import Meta
url = sys.argv[1]
sys.stdin.readline()
id = new_id()
broker = open_broker(url)
broker.publish([Message(id=id, task="t", queue="q", headers=encode_headers(Headers(task="t", id=id)), body=b"[]")])
broker.close()
backend = open_backend(url)
backend.store([backend.encode(Meta(task_id=id, status="SUCCESS", result=1))])
backend.close()
"""


def normal(schema: list[str]) -> list[str]:
    return sorted(re.sub(r"\s+", " ", line).replace("IF NOT EXISTS ", "").replace("( ", "(") for line in schema)


def decoded(cell: Any) -> Any:
    return base64.b64decode(cell["b64"]) if isinstance(cell, dict) else cell


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "db.sqlite"


def test_tables_are_celerys(path: Path) -> None:
    backend = SQLBackend(f"sqlite:///{path}")
    backend.get(["any"])
    backend.close()
    with sqlite3.connect(path) as connection:
        ours = [row[0] for row in connection.execute("SELECT sql FROM sqlite_master WHERE sql IS NOT NULL")]
    assert normal(ours) == normal(VECTORS["database"]["schema"])


def filled(path: Path, capture: str) -> list[dict[str, Any]]:
    """A database as Celery left it; its rows."""
    captured = VECTORS[capture]
    with sqlite3.connect(path) as connection:
        for statement in captured["schema"]:
            if "sqlite_sequence" not in statement:
                connection.execute(statement)
        for table, rows in captured["after"].items():
            for row in rows:
                names, values = ", ".join(row), [decoded(cell) for cell in row.values()]
                connection.execute(f"INSERT INTO {table} ({names}) VALUES ({', '.join('?' * len(row))})", values)
    return captured["after"]["celery_taskmeta"]


@pytest.mark.parametrize("capture", ["database", "database_extended"])
def test_results_of_celery_are_read(path: Path, capture: str) -> None:
    rows = filled(path, capture)
    backend = SQLBackend(f"sqlite:///{path}")
    found = backend.get([row["task_id"] for row in rows])
    for row in rows:
        meta = found[row["task_id"]]
        assert meta.status == row["status"]
        assert meta.result == json.loads(decoded(row["result"]))
        assert meta.date_done == row["date_done"].replace(" ", "T") + "+00:00"
        assert (meta.name, meta.worker, meta.retries) == (row["name"], row["worker"], row["retries"])
        assert meta.args == (json.loads(decoded(row["args"])) if row["args"] else None)
        assert meta.traceback == row["traceback"]
    stamped = VECTORS[capture]["ids"]["stamped"]
    assert found[stamped].stamps == ({"mid": "m1"} if capture == "database_extended" else None)
    group = VECTORS[capture]["ids"]["group"]
    saved = next(iter(VECTORS[capture]["after"]["celery_tasksetmeta"]))
    assert backend.restore_group(saved["taskset_id"]) == json.loads(decoded(saved["result"]))
    assert backend.restore_group(group) is None or group == saved["taskset_id"]
    backend.close()


@pytest.mark.parametrize("capture", ["database", "database_extended"])
def test_rows_are_written_as_celery_writes_them(path: Path, tmp_path: Path, capture: str) -> None:
    rows = filled(path, capture)
    theirs = SQLBackend(f"sqlite:///{path}")
    metas = theirs.get([row["task_id"] for row in rows])
    theirs.close()
    own = tmp_path / "own.sqlite"
    ours = SQLBackend(f"sqlite:///{own}")
    ours.store([ours.encode(metas[row["task_id"]]) for row in rows])
    ours.close()
    with sqlite3.connect(own) as connection:
        connection.row_factory = sqlite3.Row
        written = {row["task_id"]: dict(row) for row in connection.execute("SELECT * FROM celery_taskmeta")}
    for row in rows:
        for name, cell in row.items():
            mine, expected = written[row["task_id"]][name], decoded(cell)
            if isinstance(expected, bytes):
                mine, expected = json.loads(mine), json.loads(expected)
            assert name == "id" or mine == expected, name


def test_pickled_results_are_read_only_where_pickle_is_accepted(path: Path) -> None:
    writer = SQLBackend(f"sqlite:///{path}", Options(serializer="pickle"))
    writer.store([writer.encode(Meta(task_id="old", status="SUCCESS", result={1, 2}))])
    writer.close()
    strict = SQLBackend(f"sqlite:///{path}")
    with pytest.raises(ContentDisallowed):
        strict.get(["old"])
    strict.close()
    accept = frozenset({"application/json", "application/x-python-serialize"})
    open_minded = SQLBackend(f"sqlite:///{path}", Options(accept=accept))
    assert open_minded.get(["old"])["old"].result == {1, 2}
    open_minded.close()


@pytest.mark.parametrize("place", ["sqlite", "postgresql", "mariadb"])
def test_many_processes_create_the_tables_at_once(place: str, path: Path, fresh_url: Callable[[str], str]) -> None:
    url = f"sqlite:///{path}" if place == "sqlite" else fresh_url(place)
    processes = [
        subprocess.Popen([sys.executable, "-c", PUBLISH, url], stdin=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        for _ in range(6)
    ]
    for process in processes:
        assert process.stdin is not None
        process.stdin.write("go\n")
        process.stdin.flush()
    for process in processes:
        _, errors = process.communicate(timeout=60)
        assert process.returncode == 0, errors
    broker = SQLBroker(url)
    assert broker.size("q").ready == 6
    assert len(SQLBackend(url).get([message.id for message in broker.peek("q", 10)])) == 6
    broker.close()


def test_tables_of_a_newer_version_are_refused(path: Path) -> None:
    broker = SQLBroker(f"sqlite:///{path}")
    broker.queues()
    broker.close()
    with sqlite3.connect(path) as connection:
        connection.execute("UPDATE umbel_schema SET version = ?", (VERSION + 1,))
    with pytest.raises(BrokerError, match=f"version {VERSION + 1}"):
        SQLBroker(f"sqlite:///{path}").queues()


@pytest.mark.parametrize("url", ["sqlite://", "sqlite:///:memory:", "sqlite:///file:x?mode=memory&uri=true"])
def test_sqlite_in_memory_is_refused(url: str) -> None:
    with pytest.raises(ConfigurationError, match="memory://"):
        SQLBroker(url)


@pytest.mark.parametrize("url", ["oracle://host/db", "sqlite+pysqlcipher3", "postgresql://host:port/db"])
def test_urls_of_other_systems_are_refused(url: str) -> None:
    with pytest.raises(ConfigurationError):
        SQLBroker(url)


def test_equal_databases_are_known_by_any_spelling_of_their_url(path: Path) -> None:
    assert database_url("sqla+mysql://u@h/d") == database_url("db+mariadb://u@h/d")
    assert database_url("postgres://u@h/d") == database_url("postgresql+psycopg2://u@h/d")
    broker = SQLBroker(f"sqla+sqlite:///{path}")
    assert broker.stores_results_of(SQLBackend(f"db+sqlite:///{path.parent}/./{path.name}"))
    assert not broker.stores_results_of(SQLBackend(f"sqlite:///{path}.other"))
    renamed = SQLBackend(f"sqlite:///{path}", Options(transport={"table_names": {"task": "mine"}}))
    assert broker.stores_results_of(renamed)
    attached = SQLBackend(f"sqlite:///{path}", Options(transport={"table_schemas": {"task": "other"}}))
    assert not broker.stores_results_of(attached)


def test_results_in_other_tables_are_settled_with_their_task(path: Path) -> None:
    broker = SQLBroker(f"sqlite:///{path}")
    backend = SQLBackend(f"sqlite:///{path}", Options(transport={"table_names": {"task": "mine"}}))
    assert broker.stores_results_of(backend)
    task_id = new_id()
    headers = encode_headers(Headers(task="t", id=task_id))
    broker.publish([Message(id=task_id, task="t", queue="q", headers=headers, body=b"[]")])
    consumer = broker.consumer([Queue("q")], name="n")
    (delivery,) = consumer.receive(1, 5.0)
    result = backend.encode(Meta(task_id=task_id, status="SUCCESS", result=2))
    consumer.settle([Settlement(delivery, result=result)], 0)
    with sqlite3.connect(path) as connection:
        assert connection.execute("SELECT task_id FROM mine").fetchall() == [(task_id,)]
    assert backend.get([task_id])[task_id].result == 2
    for each in (consumer, broker, backend):
        each.close()


def test_tables_may_have_other_names(path: Path) -> None:
    names = {"task": "my_tasks", "group": "my_groups"}
    backend = SQLBackend(f"sqlite:///{path}", Options(transport={"table_names": names}))
    backend.store([backend.encode(Meta(task_id="1", status="SUCCESS", result=2))])
    backend.save_group("g", ["1"])
    assert backend.get(["1"])["1"].result == 2
    backend.close()
    with sqlite3.connect(path) as connection:
        assert connection.execute("SELECT count(*) FROM my_tasks").fetchone() == (1,)
        assert connection.execute("SELECT count(*) FROM my_groups").fetchone() == (1,)
