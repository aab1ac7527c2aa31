"""``revoke(terminate=True)`` ends a task that runs, in every pool; its neighbours go on, and the lane works on."""

from __future__ import annotations

from types import ModuleType

import pytest

from conformance.pool.conftest import start
from conformance.pool.pools import POOLS, PoolCase
from umbel.errors import TaskRevokedError
from workers import Fleet, wait_for

TIMEOUT = 30
Alone = tuple[Fleet, ModuleType]

EVERY = pytest.mark.parametrize("pool", POOLS, ids=lambda p: p.id)
FORMS = pytest.mark.parametrize("form", ["", "_async"], ids=["sync", "async"])


@FORMS
def test_a_task_that_runs_is_ended_and_its_neighbours_are_not(
    shared: Alone, tasks: ModuleType, pool: PoolCase, form: str
) -> None:
    workers = shared[0]
    worker = workers.workers[0]
    doomed = getattr(tasks, f"meet{form}").delay(1000, 120.0)
    wait_for(lambda: workers.ledger.begun()[doomed.id], TIMEOUT)
    others = [getattr(tasks, f"record{form}").delay(0.3) for _ in range(2 * pool.size)]
    doomed.revoke(terminate=True)
    with pytest.raises(TaskRevokedError, match="terminated"):
        doomed.get(timeout=TIMEOUT)
    assert doomed.state == "REVOKED"
    for result in others:
        result.get(timeout=TIMEOUT)
    assert worker.process.poll() is None
    assert workers.ledger.begun()[doomed.id] == 1
    wait_for(lambda: tasks.app.broker.size("celery").held == 0, TIMEOUT)
    assert tasks.app.broker.size("celery").ready == 0
    wait_for(lambda: f"id={doomed.id}" in worker.output() and "task revoked" in worker.output(), TIMEOUT)


@EVERY
def test_it_is_ended_although_no_broadcast_is_heard(alone: Alone, pool: PoolCase) -> None:
    workers, tasks = alone
    deaf = {"UMBEL_WORKER_ENABLE_REMOTE_CONTROL": "0"}
    workers.start(*pool.arguments, app="apps.lanes", environment=deaf)
    doomed = tasks.meet.delay(1000, 120.0)
    wait_for(lambda: workers.ledger.begun()[doomed.id], TIMEOUT)
    doomed.revoke(terminate=True)
    with pytest.raises(TaskRevokedError, match="terminated"):
        doomed.get(timeout=TIMEOUT)
    assert tasks.echo.delay("on").get(timeout=TIMEOUT) == "on"


@pytest.mark.parametrize("pool", POOLS[:2], ids=lambda p: p.id)
def test_what_waits_behind_it_is_revoked_without_being_begun(alone: Alone, pool: PoolCase) -> None:
    workers, tasks = alone
    worker = start(workers, pool, "--prefetch-multiplier", "10")
    running = [tasks.record.delay(3.0) for _ in range(pool.size)]
    wait_for(lambda: len(workers.ledger.begun()) == pool.size, TIMEOUT)
    waiting = tasks.record.delay(60.0)
    wait_for(lambda: tasks.app.broker.size("celery").ready == 0, TIMEOUT)
    waiting.revoke(terminate=True)
    with pytest.raises(TaskRevokedError, match="revoked"):
        waiting.get(timeout=TIMEOUT)
    for result in running:
        result.get(timeout=TIMEOUT)
    assert waiting.id not in workers.ledger.begun()
    assert "killed" not in worker.output()


def test_prefork_processes_get_the_signal_that_was_asked_for(alone: Alone) -> None:
    workers, tasks = alone
    worker = workers.start("-c", "1", app="apps.lanes")
    for name in ("SIGTERM", "SIGKILL", "SIGUSR2"):
        doomed = tasks.record.delay(120.0)
        wait_for(lambda task=doomed: workers.ledger.begun()[task.id], TIMEOUT)
        tasks.app.control.terminate(doomed.id, signal=name)
        with pytest.raises(TaskRevokedError, match="terminated"):
            doomed.get(timeout=TIMEOUT)
        wait_for(lambda name=name: f"signal={name}" in worker.output(), TIMEOUT)
        assert workers.ledger.begun()[doomed.id] == 1
