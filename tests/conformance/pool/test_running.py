"""What tasks do and see is the same in every pool."""

from __future__ import annotations

import itertools
from pathlib import Path
from types import ModuleType

import pytest

from conformance.pool.pools import PoolCase
from workers import wait_for

TIMEOUT = 20
FORMS = pytest.mark.parametrize("form", ["", "_async"], ids=["sync", "async"])


@FORMS
def test_results_come_back(tasks: ModuleType, form: str) -> None:
    echo = getattr(tasks, f"echo{form}")
    sent = [echo.delay(str(number)) for number in range(100)]
    assert [result.get(timeout=TIMEOUT) for result in sent] == [str(number) for number in range(100)]


@FORMS
def test_as_many_run_at_once_as_there_are_lanes(tasks: ModuleType, pool: PoolCase, form: str) -> None:
    sent = [getattr(tasks, f"meet{form}").delay(pool.size, 15.0) for _ in range(pool.size)]
    assert all(result.get(timeout=TIMEOUT) == pool.size for result in sent)


@FORMS
def test_no_more_run_at_once_than_there_are_lanes(tasks: ModuleType, pool: PoolCase, form: str) -> None:
    sent = [getattr(tasks, f"meet{form}").delay(pool.size + 1, 0.5) for _ in range(pool.size + 1)]
    begun = [result.get(timeout=TIMEOUT) for result in sent]
    assert min(begun) == pool.size


@FORMS
def test_failures_are_stored_with_their_traceback(tasks: ModuleType, form: str) -> None:
    result = getattr(tasks, f"fail{form}").delay("no luck")
    with pytest.raises(ValueError, match="no luck"):
        result.get(timeout=TIMEOUT)
    assert "raise ValueError(text)" in result.traceback


@FORMS
def test_system_exit_is_a_failure_of_the_task_only(tasks: ModuleType, form: str) -> None:
    result = getattr(tasks, f"leave{form}").delay(3)
    with pytest.raises(Exception, match=r"sys\.exit\(3\)"):
        result.get(timeout=TIMEOUT)
    assert tasks.echo.delay("alive").get(timeout=TIMEOUT) == "alive"


@FORMS
def test_retries(tasks: ModuleType, form: str) -> None:
    assert getattr(tasks, f"succeed_at{form}").delay(3).get(timeout=TIMEOUT) == 3


@FORMS
def test_large_arguments_and_results(tasks: ModuleType, form: str) -> None:
    text = "y" * (1 << 20)
    sent = [getattr(tasks, f"echo{form}").delay(text) for _ in range(4)]
    assert all(result.get(timeout=TIMEOUT) == text for result in sent)


@FORMS
def test_states_of_tasks_that_run_side_by_side_are_their_own(
    tasks: ModuleType, pool: PoolCase, form: str, tmp_path: Path
) -> None:
    go_on = tmp_path / "go on"
    sent = [getattr(tasks, f"advance{form}").delay(f"task {number}", str(go_on)) for number in range(pool.size)]
    for number, result in enumerate(sent):
        wait_for(lambda result=result: result.state == "PROGRESS", TIMEOUT)
        assert result.info == {"name": f"task {number}"}
    go_on.touch()
    assert [result.get(timeout=TIMEOUT) for result in sent] == [f"task {number}" for number in range(pool.size)]


@FORMS
def test_the_current_task_is_each_lanes_own(tasks: ModuleType, pool: PoolCase, form: str) -> None:
    sent = [getattr(tasks, f"identity{form}").delay(f"task {number}") for number in range(3 * pool.size)]
    for number, result in enumerate(sent):
        _, *seen = result.get(timeout=TIMEOUT)
        assert seen == [result.id, result.id, f"task {number}", result.id, result.id, f"task {number}"]


def test_context_variables_of_async_tasks_begin_anew(tasks: ModuleType, pool: PoolCase) -> None:
    sent = [tasks.identity_async.delay("mine") for _ in range(3 * pool.size)]
    assert {result.get(timeout=TIMEOUT)[0] for result in sent} == {"untouched"}


def test_async_tasks_run_in_loops_that_live_as_long_as_the_executor(tasks: ModuleType, pool: PoolCase) -> None:
    seen = {tuple(tasks.loop_number.delay().get(timeout=TIMEOUT)) for _ in range(4 * pool.size)}
    most = pool.size if "threads" in pool.id else pool.processes
    assert len(seen) <= most


def test_a_task_that_cancels_itself_fails_and_the_lane_goes_on(tasks: ModuleType, pool: PoolCase) -> None:
    for _ in range(pool.size + 1):
        with pytest.raises(Exception, match="Cancelled"):
            tasks.cancel_itself.delay().get(timeout=TIMEOUT)
    assert tasks.echo_async.delay("alive").get(timeout=TIMEOUT) == "alive"


def test_sync_and_async_tasks_mix(tasks: ModuleType) -> None:
    forms = itertools.cycle([tasks.echo, tasks.echo_async])
    sent = [task.delay(str(number)) for number, task in zip(range(60), forms, strict=False)]
    assert [result.get(timeout=TIMEOUT) for result in sent] == [str(number) for number in range(60)]


@FORMS
def test_tasks_send_tasks_from_all_lanes_at_once(tasks: ModuleType, pool: PoolCase, form: str) -> None:
    sent = [getattr(tasks, f"send_more{form}").delay(10) for _ in range(2 * pool.size)]
    ids = [identity for result in sent for identity in result.get(timeout=TIMEOUT)]
    assert len(set(ids)) == 20 * pool.size
    for at, identity in enumerate(ids):
        assert tasks.app.AsyncResult(identity).get(timeout=TIMEOUT) == str(at % 10)
