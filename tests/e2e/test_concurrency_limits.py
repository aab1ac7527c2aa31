"""Concurrency limits across two workers: never more at a time than allowed, and nothing is lost with a process."""

from __future__ import annotations

import signal
import time
from pathlib import Path
from types import ModuleType

import pytest

from freezing import freeze
from umbel.errors import LimitKeyError
from workers import Entry, Fleet, fleet, wait_for

TIMEOUT = 40
LEASE = 2.0


@pytest.fixture(params=["sqlite", "redis", "rabbitmq"])
def system(request: pytest.FixtureRequest) -> str:
    return request.param


def most_at_a_time(entries: list[Entry]) -> int:
    """By the ledger, of tasks that all came to their end."""
    running = most = 0
    for entry in sorted(entries, key=lambda entry: entry.at):
        running += 1 if entry.event == "begin" else -1
        most = max(most, running)
    return most


def test_never_more_run_at_a_time_than_allowed(limited_workers: Fleet, limited: ModuleType) -> None:
    for number in range(2):
        limited_workers.start("-c", "4", "-n", f"w{number}@test")
    calls = [limited.three.s(0.1) for _ in range(40)] + [limited.free.s() for _ in range(100)]
    sent = limited.app.send_many(calls)
    for result in sent:
        result.get(timeout=TIMEOUT)
    ids = {result.id for result in sent[:40]}
    entries = limited_workers.ledger.entries()
    places = [entry for entry in entries if entry.id in ids]
    assert most_at_a_time(places) == 3
    assert all(count == 1 for count in limited_workers.ledger.begun().values())
    others = [entry.at for entry in entries if entry.id not in ids]
    assert min(others) < max(entry.at for entry in places), "what is limited does not block what is not"


def test_a_worker_without_a_store_for_places_does_not_start(tmp_path: Path) -> None:
    with fleet(tmp_path, "amqp://127.0.0.1:1//", "disabled://") as made:
        worker = made.start("-c", "1", app="apps.holding", ready=False)
        assert worker.process.wait(TIMEOUT) != 0
        assert "needs a store that all workers share" in worker.output()


def test_each_key_has_its_own_limit(limited_workers: Fleet, limited: ModuleType) -> None:
    for number in range(2):
        limited_workers.start("-c", "2", "-n", f"w{number}@test")
    tenants = {name: [limited.one_each.delay(name, 0.1) for _ in range(8)] for name in ("a", "b")}
    for results in tenants.values():
        for result in results:
            result.get(timeout=TIMEOUT)
    entries = limited_workers.ledger.entries()
    for results in tenants.values():
        ids = {result.id for result in results}
        assert most_at_a_time([entry for entry in entries if entry.id in ids]) == 1
    assert most_at_a_time(entries) == 2


def test_a_retry_takes_its_place_anew(limited_workers: Fleet, limited: ModuleType) -> None:
    limited_workers.start("-c", "3")
    results = [limited.one_with_retry.delay(0.05) for _ in range(4)]
    assert [result.get(timeout=TIMEOUT) for result in results] == [2] * 4
    assert most_at_a_time(limited_workers.ledger.entries()) == 1


def test_a_key_that_fails_is_an_outcome(limited_workers: Fleet, limited: ModuleType) -> None:
    limited_workers.start("-c", "1")
    with pytest.raises(LimitKeyError, match="concurrency_key"):
        limited.bad_key.delay({}).get(timeout=TIMEOUT)
    assert limited.free.delay().get(timeout=TIMEOUT)


@pytest.mark.parametrize("what", ["executor", "worker"])
def test_a_place_comes_back_when_its_holder_dies(limited_workers: Fleet, limited: ModuleType, what: str) -> None:
    doomed = limited_workers.start("-c", "2", "-n", "doomed@test")
    result = limited.die.delay(what)
    wait_for(lambda: limited_workers.ledger.begun()[result.id], TIMEOUT)
    if what == "worker":
        wait_for(lambda: doomed.process.poll() is not None, TIMEOUT)
        limited_workers.start("-c", "2", "-n", "next@test")
    began = time.monotonic()
    assert result.get(timeout=TIMEOUT) == result.id
    assert time.monotonic() - began < 5 * LEASE
    assert limited_workers.ledger.begun()[result.id] == 2


def test_places_come_back_when_a_whole_worker_is_killed(limited_workers: Fleet, limited: ModuleType) -> None:
    doomed = limited_workers.start("-c", "3", "-n", "doomed@test")
    results = [limited.three.delay(1.0) for _ in range(9)]
    wait_for(lambda: len(limited_workers.ledger.running()) == 3, TIMEOUT)
    limited_workers.start("-c", "3", "-n", "next@test")
    dead = doomed.executor_pids()
    doomed.kill()
    for result in results:
        result.get(timeout=TIMEOUT)
    assert all(count >= 1 for count in limited_workers.ledger.ended().values())
    assert len(limited_workers.ledger.ended()) == 9
    alive = [entry for entry in limited_workers.ledger.entries() if entry.pid not in dead]
    assert most_at_a_time(alive) <= 3


def test_places_are_kept_through_a_warm_shutdown(limited_workers: Fleet, limited: ModuleType) -> None:
    first = limited_workers.start("-c", "1", "-n", "first@test")
    slow = limited.one_each.delay("a", 3 * LEASE)
    wait_for(lambda: limited_workers.ledger.begun()[slow.id], TIMEOUT)
    first.send_signal(signal.SIGTERM)
    limited_workers.start("-c", "1", "-n", "second@test")
    result = limited.one_each.delay("a")
    result.get(timeout=TIMEOUT)
    assert most_at_a_time(limited_workers.ledger.entries()) == 1
    assert first.process.wait(TIMEOUT) == 0


def test_a_worker_that_was_frozen_gives_way_to_others_only_for_what_it_runs(
    limited_workers: Fleet, limited: ModuleType
) -> None:
    if not limited.app.broker.features.leases:
        pytest.skip("the broker gives the messages of a frozen worker to others when its heartbeats are missed")
    frozen = limited_workers.start("-c", "2", "-n", "frozen@test")
    ids = [limited.one_each.delay("a", 0.5).id for _ in range(4)]
    wait_for(lambda: len(limited_workers.ledger.running()) == 1, TIMEOUT)
    freeze(frozen.tree(), limited.app.broker.url)
    limited_workers.start("-c", "2", "-n", "other@test")
    wait_for(lambda: limited_workers.ledger.ended(), TIMEOUT)
    for process in frozen.tree():
        process.resume()
    for task_id in ids:
        limited.app.AsyncResult(task_id).get(timeout=TIMEOUT)
    assert most_at_a_time(limited_workers.ledger.entries()) <= 2
