"""However a member of a chord ends, its body runs or fails with an error that says why: nobody waits for ever."""

from __future__ import annotations

import importlib
from collections.abc import Iterator
from types import ModuleType
from typing import Any

import pytest

from e2e.test_canvas import canvases as canvases
from umbel import chain, chord, group
from umbel.errors import ChordError, TaskError, UmbelError
from workers import Fleet, wait_for

pytestmark = pytest.mark.timeout(180)


@pytest.fixture(params=["redis", "sqlite", "rabbitmq"])
def system(request: pytest.FixtureRequest) -> str:
    return request.param


@pytest.fixture
def unusual(canvases: ModuleType) -> ModuleType:
    return importlib.import_module("apps.unusual")


@pytest.fixture
def start(workers: Fleet) -> Iterator[Any]:
    yield lambda *arguments: workers.start("-c", "2", "-n", "worker", *arguments, app="apps.unusual")


def failing(canvases: ModuleType, member: Any, body: Any = None) -> Any:
    """A chord of a member that ends well and this one, with an errback on its body; sent."""
    body = (body or canvases.total.s()).on_error(canvases.note_failure.s())
    return chord([canvases.plus.s(1, 1), member], body).apply_async()


def assert_failed(result: Any, match: str, workers: Fleet) -> None:
    with pytest.raises(ChordError, match=match):
        result.get(timeout=25)
    wait_for(lambda: f"errback-of-{result.id}" in workers.ledger.begun(), 20, f"the errback: {match}")


def test_members_that_end_in_uncommon_ways(
    workers: Fleet, canvases: ModuleType, unusual: ModuleType, start: Any
) -> None:
    ends, plus, total = unusual.ends, canvases.plus, canvases.total
    failures = {
        "Ignore": ends.s("ignored"),
        "not for me": ends.s("rejected"),
        "MaxRetriesExceededError": ends.s("retried too often"),
        "TimeLimitExceeded": ends.s("overrun").set(time_limit=0.5),
        "SoftTimeLimitExceeded": ends.s("overrun").set(soft_time_limit=0.5),
        "EncodeError": ends.s("unserializable"),
        "a task cannot end its worker": ends.s("exited"),
        "expired": plus.s(2, 2).set(expires=0.01, countdown=0.5),
        "WorkerLostError": canvases.always_crashes.s(1),
        "the executor that ran it": unusual.crashes_at_most_once.s(1),
        "boom": canvases.boom.s() | plus.s(1),
        "the first link": chain(ends.s("rejected"), plus.s(1), plus.s(1)),
        "a link that was killed": chain(plus.s(1, 1), canvases.always_crashes.s(), plus.s(1)),
    }
    values = {
        3: ends.s("rejected and put back"),
        4: canvases.become.s(plus.s(1, 1)),
        5: canvases.become.s(chord([plus.s(1, 0), plus.s(1, 0)], total.s() | plus.s(1))),
        6: canvases.become.s(plus.s(1, 1) | plus.s(1) | plus.s(1)),
    }
    sums = {3: 3, 4: 4, 5: 5, 6: 6}
    sent = {match: failing(canvases, member) for match, member in failures.items()}
    well = {number: chord([plus.s(1, 1), member], total.s()).apply_async() for number, member in values.items()}
    retried = chord([plus.s(1, 1), ends.s("retried")], total.s()).apply_async()
    limited = chord([unusual.one_at_a_time.s(n) for n in range(5)], total.s()).apply_async()
    start()
    for match, result in sent.items():
        words = {"the first link": "not for me", "a link that was killed": "WorkerLostError"}
        assert_failed(result, words.get(match, match), workers)
    for number, result in well.items():
        assert result.get(timeout=60) == sums[number]
    assert retried.get(timeout=60) == 3
    assert limited.get(timeout=60) == 10


def test_revoked_members(workers: Fleet, canvases: ModuleType, unusual: ModuleType, start: Any) -> None:
    plus = canvases.plus
    waiting = failing(canvases, plus.s(2, 2))
    in_chain = failing(canvases, plus.s(2, 2) | plus.s(1) | plus.s(1))
    running = failing(canvases, unusual.ends.s("overrun"))
    waiting.parent.results[1].revoke()
    in_chain.parent.results[1].parent.parent.revoke()
    start()
    assert_failed(waiting, "revoked", workers)
    assert_failed(in_chain, "revoked", workers)
    running.parent.results[1].revoke(terminate=True)
    assert_failed(running, "terminated", workers)


def test_unique_members(workers: Fleet, canvases: ModuleType, unusual: ModuleType, start: Any) -> None:
    """Members with the same key: those that are not run fail the body, whoever took the key before."""
    once, done = unusual.unique_until_start, unusual.unique_until_done
    different = chord([once.s(n) for n in range(5)], canvases.total.s()).apply_async()
    different_done = chord([done.s(n) for n in range(5)], canvases.total.s()).apply_async()
    same = [chord([task.s(7) for _ in range(5)], canvases.total.s()).apply_async() for task in (once, done)]
    start()
    assert different.get(timeout=60) == different_done.get(timeout=60) == 10
    for result in same:
        try:
            assert result.get(timeout=60) == 35
        except ChordError as error:
            assert "the unique key belongs to" in str(error)


def test_what_waits_behind_a_killed_task_is_told(workers: Fleet, canvases: ModuleType, start: Any) -> None:
    """The links behind it fail too, its errback is called, and a body that is lost on the way fails its own chord."""
    plus = canvases.plus
    killed = canvases.always_crashes.s().on_error(canvases.note_failure.s()).on_error(canvases.note_error.s())
    rest = chain(plus.s(1, 1), killed, plus.s(1), plus.s(1)).apply_async()
    long = chain(plus.s(1, 1), killed.clone(), *[plus.s(1) for _ in range(60)]).apply_async()
    body = chord([chord([plus.s(1, 1)], canvases.always_crashes.s()), plus.s(1, 1)], canvases.total.s()).apply_async()
    start()
    for result in (rest, long):
        with pytest.raises(UmbelError, match="the executor that ran it"):
            result.get(timeout=25)
    dead = rest.parent.parent.id
    wanted = {f"errback-of-{dead}", f"error-WorkerLostError-of-{dead}"}
    wait_for(lambda: wanted <= workers.ledger.begun().keys(), 20, "both error callbacks")
    with pytest.raises(TaskError, match="WorkerLostError"):
        body.get(timeout=60)


def test_a_group_whose_members_are_lost_says_so(
    workers: Fleet, canvases: ModuleType, unusual: ModuleType, start: Any
) -> None:
    result = group(canvases.plus.s(1, 1), unusual.ends.s("rejected") | canvases.plus.s(1)).apply_async()
    start()
    with pytest.raises(TaskError, match="not for me"):
        result.get(timeout=25)
