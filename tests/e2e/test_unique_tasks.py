"""Unique tasks, from the call to the end: on every broker that keeps keys, and with the keys in the result store."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from types import ModuleType

import pytest

from umbel import DuplicateTaskError
from umbel.errors import OperationalError, TaskRevokedError, WorkerLostError
from umbel.sending import prepare
from workers import Fleet, wait_for

TIMEOUT = 30


@pytest.fixture(params=["sqlite", "redis", "postgresql", "rabbitmq"])
def system(request: pytest.FixtureRequest) -> str:
    return request.param


def test_calls_at_the_same_time_are_one(limited_workers: Fleet, limited: ModuleType) -> None:
    with ThreadPoolExecutor(8) as threads:
        sent = list(threads.map(lambda _: limited.unique.delay("a").id, range(24)))
    assert len(set(sent)) == 1
    limited_workers.start("-c", "2")
    assert limited.app.AsyncResult(sent[0]).get(timeout=TIMEOUT) == sent[0]
    assert limited_workers.ledger.begun() == {sent[0]: 1}


def test_the_key_is_free_when_the_task_has_ended(limited_workers: Fleet, limited: ModuleType) -> None:
    limited_workers.start("-c", "2")
    first = limited.unique.delay("a", 3.0)
    wait_for(lambda: limited_workers.ledger.begun()[first.id], TIMEOUT)
    assert limited.unique.delay(name="a", seconds=3.0).id == first.id, "running, and however it is written"
    assert asyncio.run(_sent_async(limited)) == first.id
    first.get(timeout=TIMEOUT)
    second = limited.unique.delay("a", 3.0)
    assert second.id != first.id
    second.get(timeout=TIMEOUT)


async def _sent_async(limited: ModuleType) -> str:
    return (await limited.unique.adelay("a", 3.0)).id


def test_until_start_frees_the_key_when_it_runs(limited_workers: Fleet, limited: ModuleType) -> None:
    first = limited.unique_until_start.delay("a", 1.0)
    assert limited.unique_until_start.delay("a", 2.0).id == first.id
    limited_workers.start("-c", "1")
    wait_for(lambda: limited_workers.ledger.begun()[first.id], TIMEOUT)
    second = limited.unique_until_start.delay("a", 0.0)
    assert second.id != first.id
    assert [first.get(timeout=TIMEOUT), second.get(timeout=TIMEOUT)] == [first.id, second.id]


def test_until_start_keeps_the_key_while_a_worker_only_holds_it(limited_workers: Fleet, limited: ModuleType) -> None:
    limited_workers.start("-c", "1", "--prefetch-multiplier", "10")
    running = limited.unique_until_start.delay("a", 2.0)
    wait_for(lambda: limited_workers.ledger.begun()[running.id], TIMEOUT)
    held = limited.unique_until_start.delay("b", 2.0)
    wait_for(lambda: limited.app.broker.size("celery").ready == 0, TIMEOUT)
    assert running.id not in limited_workers.ledger.ended()
    assert limited.unique_until_start.delay("b").id == held.id
    wait_for(lambda: limited_workers.ledger.begun()[held.id], TIMEOUT)
    assert limited.unique_until_start.delay("b").id != held.id


@pytest.mark.parametrize("system", ["redis"], indirect=True)
@pytest.mark.parametrize("form", ["", "_async"])
@pytest.mark.parametrize("pool", ["threads", "asyncio", "gevent", "solo"])
def test_until_start_frees_the_key_in_every_pool(
    limited_workers: Fleet, limited: ModuleType, pool: str, form: str
) -> None:
    task = getattr(limited, f"unique_until_start{form}")
    limited_workers.start("-P", pool, "-c", "1")
    running = task.delay("a", 1.0)
    wait_for(lambda: limited_workers.ledger.begun()[running.id], TIMEOUT)
    assert task.delay("a").id != running.id


def test_a_replaced_call_is_not_run(limited_workers: Fleet, limited: ModuleType) -> None:
    calls = [limited.unique_replacing.delay("a", value) for value in range(3)]
    limited_workers.start("-c", "1")
    assert calls[2].get(timeout=TIMEOUT) == 2
    for replaced in calls[:2]:
        with pytest.raises(TaskRevokedError, match=calls[2].id):
            replaced.get(timeout=TIMEOUT)
    assert limited_workers.ledger.begun() == {calls[2].id: 1}


def test_the_key_is_kept_through_retries(limited_workers: Fleet, limited: ModuleType) -> None:
    limited_workers.start("-c", "1")
    first = limited.unique_with_retry.delay("a")
    wait_for(lambda: first.state == "RETRY", TIMEOUT)
    assert limited.unique_with_retry.delay("a").id == first.id
    assert first.get(timeout=TIMEOUT) == 1
    wait_for(lambda: limited.unique_with_retry.delay("a").id != first.id, TIMEOUT)


def test_the_key_is_free_after_every_kind_of_failure(limited_workers: Fleet, limited: ModuleType) -> None:
    limited_workers.start("-c", "1")
    failed = limited.unique_with_retry.delay("a", False)
    crashed = limited.unique_crashing.delay("a")
    expired = limited.unique.apply_async(("e",), expires=0.001)
    with pytest.raises(Exception, match=r"max_retries|retried"):
        failed.get(timeout=TIMEOUT)
    with pytest.raises(WorkerLostError):
        crashed.get(timeout=TIMEOUT)
    wait_for(lambda: limited.unique_with_retry.delay("a", False).id != failed.id, TIMEOUT)
    wait_for(lambda: limited.unique_crashing.delay("a").id != crashed.id, TIMEOUT)
    wait_for(lambda: limited.unique.delay("e").id != expired.id, TIMEOUT)


def test_the_key_is_kept_when_a_worker_is_killed(limited_workers: Fleet, limited: ModuleType) -> None:
    doomed = limited_workers.start("-c", "1", "-n", "doomed@test")
    first = limited.unique.delay("a", 1.0)
    wait_for(lambda: limited_workers.ledger.begun()[first.id], TIMEOUT)
    doomed.kill()
    assert limited.unique.delay("a", 1.0).id == first.id
    limited_workers.start("-c", "1", "-n", "next@test")
    assert first.get(timeout=TIMEOUT) == first.id
    wait_for(lambda: limited.unique.delay("a", 1.0).id != first.id, TIMEOUT)


def test_a_key_left_by_a_dead_process_is_taken_over(limited_workers: Fleet, limited: ModuleType) -> None:
    """What a worker leaves that dies between the result and the release: the result tells."""
    worker = limited_workers.start("-c", "1")
    first = limited.unique.delay("a")
    first.get(timeout=TIMEOUT)
    worker.stop()
    from umbel.limits.unique import claims_of, rule_of

    rule = rule_of(limited.unique)
    assert rule is not None
    message = prepare(limited.app, limited.unique.name, ("a",), {}, {"task_id": first.id}, limited.unique)
    claims_of(limited.app, rule).claim([rule.claim(str(rule.of(message)), message)])
    assert limited.unique.delay("a").id != first.id


def test_what_was_sent_without_a_claim_is_judged_by_the_worker(limited_workers: Fleet, limited: ModuleType) -> None:
    """As messages of Celery's clients are."""
    messages = [prepare(limited.app, limited.unique.name, ("a", 0.3), {}, {}) for _ in range(3)]
    limited.app.publish(messages)
    limited_workers.start("-c", "2")
    results = [limited.app.AsyncResult(message.id) for message in messages]
    wait_for(lambda: all(result.ready() for result in results), TIMEOUT)
    assert sorted(result.state for result in results) == ["REVOKED", "REVOKED", "SUCCESS"]
    assert len(limited_workers.ledger.begun()) == 1


def test_many_are_claimed_at_once(limited_workers: Fleet, limited: ModuleType) -> None:
    limited_workers.start("-c", "1")
    calls = [limited.unique.s(name, 0.3) for name in ("a", "b", "a")]
    results = limited.app.send_many(calls)
    assert results[0].id == results[2].id != results[1].id
    assert limited.app.send_task(limited.unique.name, ("b", 0.3)).id == results[1].id
    assert [result.get(timeout=TIMEOUT) for result in results] == [result.id for result in results]


def test_raise_names_the_call_that_has_the_key(limited: ModuleType) -> None:
    first = limited.unique_raising.delay("a")
    with pytest.raises(DuplicateTaskError) as caught:
        limited.unique_raising.delay("a")
    assert caught.value.task_id == first.id
    with pytest.raises(DuplicateTaskError):
        limited.app.send_many([limited.unique_raising.s("b"), limited.unique_raising.s("a")])
    assert limited.unique_raising.delay("b").id, "of a batch that is refused nothing is sent and no key kept"


def test_a_publish_that_fails_frees_the_key(limited: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    real: Callable[..., None] = limited.app.broker.publish

    def broken(*args: object, **kwargs: object) -> None:
        raise OperationalError("cut")

    monkeypatch.setattr(limited.app.broker, "publish", broken)
    with pytest.raises(OperationalError):
        limited.unique_raising.delay("a")
    monkeypatch.setattr(limited.app.broker, "publish", real)
    assert limited.unique_raising.delay("a").id


def test_a_key_can_be_freed_by_hand(limited: ModuleType) -> None:
    first = limited.unique.delay("a")
    assert limited.unique.release_unique("b") is False
    assert limited.unique.release_unique(name="a") is True
    assert limited.unique.delay("a").id != first.id


def test_the_key_is_free_after_a_task_that_was_acknowledged_early(limited_workers: Fleet, limited: ModuleType) -> None:
    limited_workers.start("-c", "1")
    for name in ("well", "crash"):
        first = limited.unique_at_most_once.delay(name)
        wait_for(first.ready, TIMEOUT)
        wait_for(lambda name=name, first=first: limited.unique_at_most_once.delay(name).id != first.id, TIMEOUT)
