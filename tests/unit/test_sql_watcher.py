"""Waiting for results on a server that throws the waiting connection out, once, often, and for good."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import closing
from urllib.parse import urlsplit

import pytest

from conformance.waiting import Running
from proxy import TCPProxy
from umbel.backends.base import Meta, Options
from umbel.backends.sql import SQLBackend
from umbel.errors import OperationalError
from umbel.message import new_id
from workers import wait_for


@pytest.fixture(params=["postgresql", "mariadb"])
def url(request: pytest.FixtureRequest, fresh_url: Callable[[str], str]) -> str:
    return fresh_url(request.param)


@pytest.fixture
def backend(url: str) -> Iterator[SQLBackend]:
    made = SQLBackend(url)
    yield made
    made.close()


@pytest.fixture
def storing(url: str) -> Iterator[SQLBackend]:
    """Another process, as it were."""
    made = SQLBackend(url)
    yield made
    made.close()


def expel(url: str) -> int:
    """Have the server end every other connection to this database; how many there were."""
    if urlsplit(url).scheme == "postgresql":
        import psycopg

        with psycopg.connect(url) as connection:
            sql = (
                "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity"
                " WHERE datname = current_database() AND pid != pg_backend_pid()"
            )
            (count,) = connection.execute(sql).fetchone() or (0,)
        return count
    import pymysql

    parts = urlsplit(url)
    name = parts.path.strip("/")
    with (
        pymysql.connect(
            host=parts.hostname, port=parts.port or 3306, user=parts.username, password=parts.password or ""
        ) as connection,
        connection.cursor() as cursor,
    ):
        cursor.execute("SELECT id FROM information_schema.processlist WHERE db = %s", (name,))
        found = [row[0] for row in cursor.fetchall()]
        for number in found:
            cursor.execute(f"KILL {number}")
    return len(found)


def store(backend: SQLBackend, task_id: str, status: str = "SUCCESS", result: object = None) -> None:
    backend.store([backend.encode(Meta(task_id=task_id, status=status, result=result))])


def test_a_wait_goes_on_when_its_connection_is_terminated(backend: SQLBackend, storing: SQLBackend, url: str) -> None:
    task = new_id()
    seen: list[Meta] = []
    store(storing, task, "STARTED")
    waiting = Running(lambda: backend.wait([task], 30.0, seen.append))
    wait_for(lambda: [meta.status for meta in seen] == ["STARTED"])
    for number in range(5):
        storing.close()
        assert wait_for(lambda: expel(url)) >= 1
        store(storing, task, "PROGRESS", number)
        wait_for(lambda number=number: seen[-1].result == number)
    store(storing, task, "SUCCESS", "after all that")
    stored = time.time()
    assert waiting.result()
    assert waiting.ended - stored < 5.0
    assert seen[-1].result == "after all that"


def test_what_is_stored_while_nobody_listens_is_found(
    storing: SQLBackend, url: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO", "umbel.backends")
    with TCPProxy.to(url) as proxy, closing(SQLBackend(proxy.url(url))) as distant:
        task, other = new_id(), new_id()
        seen: list[Meta] = []
        subscribed: list[Meta] = []
        distant.subscribe(other, subscribed.append)
        store(storing, task, "STARTED")
        waiting = Running(lambda: distant.wait([task], 30.0, seen.append))
        wait_for(lambda: seen)
        proxy.refuse()
        proxy.cut()
        store(storing, task, "SUCCESS", 1)
        store(storing, other, "SUCCESS", 2)
        wait_for(lambda: "on which results are awaited broke" in caplog.text)
        assert not waiting.done
        proxy.heal()
        assert waiting.result(10.0)
        assert [meta.result for meta in wait_for(lambda: subscribed)] == [2]


def test_a_server_that_stays_away_ends_the_wait(storing: SQLBackend, url: str) -> None:
    """After the time that a statement may take."""
    with TCPProxy.to(url) as proxy, closing(SQLBackend(proxy.url(url), Options(timeout=1.0))) as distant:
        task = new_id()
        store(storing, task, "STARTED")
        seen: list[Meta] = []
        waiting = Running(lambda: distant.wait([task], 30.0, seen.append))
        wait_for(lambda: seen)
        proxy.refuse()
        proxy.cut()
        cut = time.time()
        with pytest.raises(OperationalError):
            waiting.result(10.0)
        assert 1.0 <= waiting.ended - cut < 10.0
        proxy.heal()
        store(storing, task, "SUCCESS", "it is back")
        assert distant.wait([task], 5.0, seen.append)
        assert seen[-1].result == "it is back"


def test_a_wait_ends_in_time_while_the_server_is_away(storing: SQLBackend, url: str) -> None:
    with TCPProxy.to(url) as proxy, closing(SQLBackend(proxy.url(url))) as distant:
        task = new_id()
        store(storing, task, "STARTED")
        seen: list[Meta] = []
        began = time.time()
        waiting = Running(lambda: distant.wait([task], 1.5, seen.append))
        wait_for(lambda: seen)
        proxy.refuse()
        proxy.cut()
        assert waiting.result(10.0) is False
        assert 1.4 <= waiting.ended - began < 5.0
