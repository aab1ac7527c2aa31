"""Time limits are the same in every pool: the soft one is raised inside the task, the hard one ends it whatever it
does, and nobody else is harmed."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from conformance.pool.conftest import place, start
from conformance.pool.pools import POOLS, PoolCase
from umbel.errors import SoftTimeLimitExceeded, TaskRevokedError, TimeLimitExceeded, WorkerLostError
from workers import Fleet, wait_for

TIMEOUT = 30
APP = "apps.overrunning"
LATEST = 4.0
"""Seconds by which an end may be late here; every task would take 30 s."""

FORMS = pytest.mark.parametrize("form", ["", "_async"], ids=["sync", "async"])
FORKING = pytest.mark.parametrize("pool", [p for p in POOLS if p.forks], ids=lambda p: p.id)
MANY_LANES = pytest.mark.parametrize("pool", [p for p in POOLS if p.lanes > 1], ids=lambda p: p.id)
EVERY = pytest.mark.parametrize("pool", POOLS, ids=lambda p: p.id)

Place = tuple[Fleet, ModuleType]


@pytest.fixture(scope="module")
def running(pool: PoolCase, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    """A worker whose tasks are ended when a file of their id appears in ``endings``."""
    directory = tmp_path_factory.mktemp("limits")
    endings = directory / "endings"
    endings.mkdir()
    with place(directory, APP) as (workers, tasks):
        more = {"OVERRUNNING_ENDINGS": str(endings)} | ({"OVERRUNNING_HARD": "yes"} if pool.forks else {})
        workers.start(*pool.arguments, app=APP, environment=more)
        assert tasks.pid.delay().get(timeout=TIMEOUT)
        yield workers, tasks


@pytest.fixture
def limited(running: Place, pool: PoolCase) -> ModuleType:
    return running[1]


@pytest.fixture
def forking(limited: ModuleType, pool: PoolCase) -> ModuleType:
    if not pool.forks:
        pytest.skip("a thread cannot be ended by force")
    return limited


@pytest.fixture
def alone(tmp_path: Path) -> Iterator[Place]:
    """The workers are to be started."""
    with place(tmp_path, APP) as made:
        yield made


def events(workers: Fleet, task_id: str) -> list[str]:
    return [entry.event for entry in workers.ledger.entries() if entry.id == task_id]


def send(task: Any, *args: Any, **options: Any) -> Any:
    return task.apply_async(args, **options)


def overruns(result: Any, limit: float) -> None:
    """It was ended by this hard limit, and in time."""
    began = time.monotonic()
    with pytest.raises(TimeLimitExceeded) as error:
        result.get(timeout=TIMEOUT)
    assert time.monotonic() - began < limit + LATEST
    assert error.value.args == (limit,)
    assert result.state == "FAILURE"


def settled(tasks: ModuleType) -> bool:
    size = tasks.app.broker.size("celery")
    return (size.ready, size.held) == (0, 0)


# -- soft --


@FORMS
def test_a_soft_limit_lets_the_task_clean_up(running: Place, limited: ModuleType, form: str) -> None:
    result = send(getattr(limited, f"overrun{form}"), soft_time_limit=0.2)
    assert result.get(timeout=TIMEOUT) == "cleaned up"
    assert events(running[0], result.id) == ["begin", "soft", "clean"]


@FORMS
def test_a_soft_limit_fails_a_task_that_does_not_expect_it(limited: ModuleType, form: str) -> None:
    result = send(getattr(limited, f"unprepared{form}"), soft_time_limit=0.2)
    with pytest.raises(SoftTimeLimitExceeded):
        result.get(timeout=TIMEOUT)
    assert result.state == "FAILURE"
    assert "unprepared" in result.traceback


def test_a_task_has_its_own_soft_limit(limited: ModuleType) -> None:
    with pytest.raises(SoftTimeLimitExceeded):
        limited.soft_by_itself.delay().get(timeout=TIMEOUT)


@FORMS
def test_a_task_within_its_limits_ends_as_without(running: Place, limited: ModuleType, form: str) -> None:
    hard = {} if running[0].workers[0].output().count("solo") else {"time_limit": 20}
    result = send(getattr(limited, f"overrun{form}"), 0.1, soft_time_limit=10, **hard)
    assert result.get(timeout=TIMEOUT) == "done"


@FORMS
def test_a_soft_limit_can_be_retried(limited: ModuleType, form: str) -> None:
    assert send(getattr(limited, f"succeed_at{form}"), 2, soft_time_limit=0.2).get(timeout=TIMEOUT) == 2


@pytest.mark.parametrize("name", ["spin", "spin_async", "overrun", "overrun_async"])
def test_a_limit_that_is_over_as_the_task_ends_hits_nothing_else(
    running: Place, limited: ModuleType, pool: PoolCase, name: str
) -> None:
    before = running[0].workers[0].executor_pids()
    sent = [send(getattr(limited, name), 0.02, soft_time_limit=0.02) for _ in range(30 * pool.size)]
    others = [limited.pid.delay() for _ in range(50)]
    for result in sent:
        assert result.get(timeout=TIMEOUT, propagate=False) in (True, "done", "cleaned up") or isinstance(
            result.result, SoftTimeLimitExceeded
        )
    assert all(result.get(timeout=TIMEOUT) for result in others)
    assert running[0].workers[0].executor_pids() == before
    assert "a lane failed" not in running[0].workers[0].output()


# -- hard --


@FORMS
def test_a_hard_limit_ends_a_task(running: Place, forking: ModuleType, form: str) -> None:
    result = send(getattr(forking, f"unprepared{form}"), time_limit=0.4)
    overruns(result, 0.4)
    wait_for(lambda: "failed" in events(running[0], result.id), TIMEOUT, "task_failure is sent")
    assert events(running[0], result.id) == ["begin", "failed"]
    assert forking.pid.delay().get(timeout=TIMEOUT)


def test_a_task_has_its_own_hard_limit(forking: ModuleType) -> None:
    overruns(forking.app.send_task("apps.overrunning.hard_by_itself"), 0.3)


@pytest.mark.parametrize("name", ["sleep", "block_in_c", "swallow", "swallow_async"])
def test_a_hard_limit_ends_a_task_that_does_not_yield(running: Place, forking: ModuleType, name: str) -> None:
    result = send(getattr(forking, name), time_limit=0.4)
    overruns(result, 0.4)
    assert events(running[0], result.id).count("begin") == 1
    assert forking.pid.delay().get(timeout=TIMEOUT)


@FORMS
def test_a_hard_limit_after_a_soft_one(running: Place, forking: ModuleType, form: str) -> None:
    result = send(getattr(forking, f"swallow{form}"), soft_time_limit=0.2, time_limit=0.6)
    overruns(result, 0.6)
    assert "swallowed" in events(running[0], result.id)


def test_an_early_acknowledged_task_is_ended_too(running: Place, forking: ModuleType) -> None:
    result = send(forking.overrun_once, time_limit=0.4)
    overruns(result, 0.4)
    wait_for(lambda: settled(forking), TIMEOUT)
    assert events(running[0], result.id).count("begin") == 1


def test_a_task_may_refuse_to_acknowledge_its_time_out(forking: ModuleType) -> None:
    result = send(forking.overrun_refused, time_limit=0.4)
    overruns(result, 0.4)
    wait_for(lambda: forking.app.broker.size("celery").dead == 1, TIMEOUT)
    forking.app.broker.purge_dead("celery")


def test_error_callbacks_of_a_task_that_overran_are_sent(running: Place, forking: ModuleType) -> None:
    result = send(forking.unprepared, time_limit=0.4, link_error=forking.on_error.s())
    overruns(result, 0.4)
    wait_for(lambda: "errback" in events(running[0], result.id), TIMEOUT)


@FORKING
@FORMS
def test_what_else_a_process_had_is_run_again_and_not_counted(alone: Place, pool: PoolCase, form: str) -> None:
    """Oftener than a crash may happen to a task."""
    workers, tasks = alone
    start(workers, pool, app=APP)
    others = [send(getattr(tasks, f"neighbour{form}"), 1.5) for _ in range(pool.size - 1)]
    wait_for(lambda: len(workers.ledger.running()) == pool.size - 1, TIMEOUT)
    for _ in range(4):
        result = send(tasks.swallow, time_limit=0.2)
        overruns(result, 0.2)
        assert workers.ledger.begun()[result.id] == 1
    assert [result.get(timeout=TIMEOUT) for result in others] == [0] * len(others)
    wait_for(lambda: settled(tasks), TIMEOUT)


@MANY_LANES
def test_what_is_not_to_run_twice_fails_with_its_process(alone: Place, pool: PoolCase) -> None:
    workers, tasks = alone
    start(workers, pool, app=APP)
    others = [send(tasks.neighbour_once, 30) for _ in range(pool.size - 1)]
    wait_for(lambda: len(workers.ledger.begun()) == pool.size - 1, TIMEOUT)
    overruns(send(tasks.swallow, time_limit=0.2), 0.2)
    lost = wait_for(lambda: [result for result in others if result.ready()], TIMEOUT)
    for result in lost:
        with pytest.raises(WorkerLostError):
            result.get(timeout=TIMEOUT)
    assert max(workers.ledger.begun().values()) == 1


# -- limits of the worker --


@EVERY
def test_limits_of_the_worker_hold_for_tasks_that_have_none(alone: Place, pool: PoolCase) -> None:
    workers, tasks = alone
    hard = ("--time-limit", "1.0") if pool.forks else ()
    start(workers, pool, "--soft-time-limit", "0.3", *hard, app=APP)
    assert tasks.overrun_async.delay().get(timeout=TIMEOUT) == "cleaned up"
    assert send(tasks.overrun, 0.8, soft_time_limit=10).get(timeout=TIMEOUT) == "done"
    if pool.forks:
        overruns(tasks.swallow.delay(), 1.0)


@pytest.mark.parametrize("how", ["of the worker", "of the settings", "of a task"])
def test_solo_refuses_hard_limits_at_start(alone: Place, how: str) -> None:
    workers, _ = alone
    arguments = ("--time-limit", "3") if how == "of the worker" else ()
    environment = {"of the settings": {"UMBEL_TASK_TIME_LIMIT": "3"}, "of a task": {"OVERRUNNING_HARD": "yes"}}
    worker = workers.start("-P", "solo", *arguments, app=APP, environment=environment.get(how), ready=False)
    assert worker.process.wait(TIMEOUT) != 0
    assert "the pool solo cannot enforce hard time limits" in worker.output()
    assert "Traceback" not in worker.output()


# -- ended by others --


def end(workers: Fleet, result: Any) -> None:
    (workers.directory / "endings" / result.id).touch()


@FORMS
def test_a_running_task_is_ended(running: Place, limited: ModuleType, form: str) -> None:
    workers = running[0]
    result = send(getattr(limited, f"overrun{form}"))
    wait_for(lambda: events(workers, result.id), TIMEOUT)
    end(workers, result)
    with pytest.raises(TaskRevokedError, match="terminated"):
        result.get(timeout=TIMEOUT)
    assert result.state == "REVOKED"
    assert limited.pid.delay().get(timeout=TIMEOUT)
    assert "end" not in events(workers, result.id)


def test_a_running_task_that_does_not_yield_is_ended(running: Place, forking: ModuleType) -> None:
    workers = running[0]
    result = forking.swallow.delay()
    wait_for(lambda: events(workers, result.id), TIMEOUT)
    end(workers, result)
    with pytest.raises(TaskRevokedError):
        result.get(timeout=TIMEOUT)


def test_a_held_task_that_has_not_begun_never_does(running: Place, limited: ModuleType, pool: PoolCase) -> None:
    workers = running[0]
    busy = [limited.neighbour.delay(1.0) for _ in range(pool.size)]
    wait_for(lambda: all(events(workers, result.id) for result in busy), TIMEOUT)
    held = [limited.neighbour.delay(0.01) for _ in range(pool.size)]
    end(workers, held[0])
    results = [result.get(timeout=TIMEOUT, propagate=False) for result in (*held, *busy)]
    if isinstance(results[0], TaskRevokedError):
        assert events(workers, held[0].id) == []
    assert results[1:] == [0] * (2 * pool.size - 1)
