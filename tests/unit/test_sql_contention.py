"""Processes that write into one SQLite file at the same time: all get their turn, and wait no longer than they may."""

from __future__ import annotations

import statistics
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from conformance.waiting import timed
from umbel.brokers.sql.database import Database, Link
from umbel.brokers.sql.faults import Conflict
from umbel.errors import BrokerError

BUSY = """
import sys, threading, time
from umbel.brokers.sql.database import Database
from umbel.errors import BrokerError
told = threading.Event()
threading.Thread(target=lambda: (sys.stdin.read(), told.set()), daemon=True).start()
with Database(sys.argv[1], refusal=BrokerError).borrowed() as link:
    link.run("PRAGMA synchronous=NORMAL")
    while not told.is_set():
        with link.transaction():
            link.run("UPDATE turns SET taken = taken + 1")
            time.sleep(0.005)
"""


@pytest.fixture
def database(tmp_path: Path) -> Iterator[Database]:
    made = Database(f"sqlite:///{tmp_path}/file.db", refusal=BrokerError)
    with made.borrowed() as link:
        link.run("CREATE TABLE turns AS SELECT 0 AS taken")
    yield made
    made.close()


def write(link: Link) -> None:
    with link.transaction():
        link.run("UPDATE turns SET taken = taken + 1")


@pytest.mark.timed(0.2)
def test_a_process_that_writes_all_the_time_lets_others_write(database: Database, tmp_path: Path) -> None:
    """It pauses now and then, and others look often enough."""
    busy = subprocess.Popen([sys.executable, "-c", BUSY, f"sqlite:///{tmp_path}/file.db"], stdin=subprocess.PIPE)
    with busy, database.borrowed() as link:
        link.run("PRAGMA synchronous=NORMAL")
        waited: list[float] = []
        while len(waited) < 9:
            turn = link.value("SELECT taken FROM turns") + 5
            while link.value("SELECT taken FROM turns") < turn:
                assert busy.poll() is None
                time.sleep(0.002)
            waited.append(timed(lambda: write(link)))
        busy.communicate(b"")
    assert statistics.median(waited) < 0.3, waited


@pytest.mark.timed(0.2)
def test_who_gets_no_turn_says_so_in_time(database: Database, tmp_path: Path) -> None:
    other = Database(f"sqlite:///{tmp_path}/file.db", refusal=BrokerError)
    with database.borrowed() as holder, holder.transaction(), other.borrowed(within=0.5) as link:

        def wait() -> None:
            with pytest.raises(Conflict, match="locked"), link.transaction():
                raise AssertionError("two write")

        assert 0.3 <= timed(wait) < 1.0
        assert link.value("SELECT taken FROM turns") == 0, "who reads does not wait"
    with other.borrowed() as link:
        write(link)
    other.close()
