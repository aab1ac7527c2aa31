"""Executors are replaced after so many tasks or above so much memory, and nothing is lost or waits for that."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest

from umbel.executors.recycling import resident_memory
from workers import Fleet, fleet, wait_for

TIMEOUT = 30


@pytest.fixture(params=["sqlite", "redis"])
def system(request: pytest.FixtureRequest) -> str:
    return request.param


@pytest.fixture
def workers(urls: tuple[str, str], tmp_path: Path) -> Iterator[Fleet]:
    with fleet(tmp_path, *urls) as made:
        yield made


def per_process(workers: Fleet) -> Counter[int]:
    """How many tasks each executor has run."""
    return Counter(entry.pid for entry in workers.ledger.entries() if entry.event == "end")


def test_no_executor_runs_more_tasks_than_it_may_and_every_task_runs_once(workers: Fleet, tasks: ModuleType) -> None:
    ids = {tasks.record.delay().id for _ in range(300)}
    worker = workers.start("-c", "2", "--max-tasks-per-child", "10")
    wait_for(lambda: set(workers.ledger.ended()) == ids, TIMEOUT)
    assert set(workers.ledger.begun().values()) == {1}
    counts = per_process(workers)
    assert len(counts) >= 30 and max(counts.values()) == 10
    assert "was replaced: it has run 10 tasks" in worker.output()
    assert "ERROR" not in worker.output()
    wait_for(lambda: len(worker.executors()) == 2, what="the replaced ones are gone, their successors there")
    assert worker.stop() == 0


@pytest.mark.parametrize("pool", ["threads", "asyncio", "gevent", "eventlet"])
def test_an_executor_of_several_lanes_ends_what_it_runs_while_its_successor_works(
    workers: Fleet, tasks: ModuleType, pool: str
) -> None:
    workers.start("--pool", pool, "-c", "4", "--processes", "1", "--max-tasks-per-child", "10")
    slow = tasks.record_pid.delay(3.0)
    wait_for(lambda: slow.id in workers.ledger.begun(), TIMEOUT)
    quick = [tasks.record_pid.delay() for _ in range(60)]
    pids = [result.get(timeout=TIMEOUT) for result in quick]
    assert slow.id not in workers.ledger.ended()
    assert slow.get(timeout=TIMEOUT) == pids[0]
    assert set(workers.ledger.begun().values()) == {1}
    counts = per_process(workers)
    assert len(counts) >= 6 and max(counts.values()) == 10


def test_successors_that_are_ready_beforehand_run_nothing_until_they_succeed(workers: Fleet, tasks: ModuleType) -> None:
    ids = {tasks.record.delay(0.05).id for _ in range(12)}
    workers.start("-c", "1", "--max-tasks-per-child", "2")
    wait_for(lambda: set(workers.ledger.ended()) == ids, TIMEOUT)
    assert [entry.event for entry in workers.ledger.entries()] == ["begin", "end"] * 12
    assert sorted(per_process(workers).values()) == [2] * 6


def test_one_task_each_is_possible(workers: Fleet, tasks: ModuleType) -> None:
    workers.start("-c", "1", environment={"UMBEL_WORKER_MAX_TASKS_PER_CHILD": "1"})
    results = [tasks.record_pid.delay() for _ in range(20)]
    assert len({result.get(timeout=TIMEOUT) for result in results}) == 20


def test_work_that_waits_behind_a_long_task_is_not_delayed_by_a_replacement(workers: Fleet, tasks: ModuleType) -> None:
    workers.start("-c", "2", "--max-tasks-per-child", "5")
    for result in [tasks.record.delay() for _ in range(40)]:
        result.get(timeout=TIMEOUT)
    tasks.record.delay(6.0)
    started = time.monotonic()
    for result in [tasks.record.delay() for _ in range(50)]:
        result.get(timeout=TIMEOUT)
    assert time.monotonic() - started < 4


def test_an_executor_that_grew_is_replaced_after_the_task(workers: Fleet, tasks: ModuleType) -> None:
    worker = workers.start("-c", "1", "--max-memory-per-child", "200000")
    pids = [tasks.record_pid.delay().get(timeout=TIMEOUT) for _ in range(3)]
    assert len(set(pids)) == 1
    tasks.hoard.delay(250).get(timeout=TIMEOUT)
    assert tasks.record_pid.delay().get(timeout=TIMEOUT) != pids[0]
    wait_for(lambda: "KiB, more than 200,000" in worker.output())
    assert worker.output().count("was replaced") == 1


def test_a_limit_below_what_an_executor_starts_with_still_lets_it_work(workers: Fleet, tasks: ModuleType) -> None:
    workers.start("-c", "1", "--max-memory-per-child", "1")
    results = [tasks.record_pid.delay() for _ in range(5)]
    assert len({result.get(timeout=TIMEOUT) for result in results}) == 5


def test_resident_memory_is_in_kib() -> None:
    before = resident_memory()
    block = bytearray(64 << 20)
    grown = resident_memory() - before
    assert len(block) == 64 << 20
    assert 60 << 10 < grown < 80 << 10
