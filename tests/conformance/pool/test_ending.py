"""How lanes, processes and workers end: whatever happens to them, nothing is lost and nothing is left behind."""

from __future__ import annotations

import os
import signal
import time
from collections import Counter
from pathlib import Path
from types import ModuleType

import pytest

from chaos.scene import SHORT_LEASE
from conformance.pool.conftest import start
from conformance.pool.pools import POOLS, PoolCase
from processes import still_running
from umbel.errors import WorkerLostError
from workers import Fleet, WorkerProcess, wait_for

TIMEOUT = 30
Alone = tuple[Fleet, ModuleType]

FORMS = pytest.mark.parametrize("form", ["", "_async"], ids=["sync", "async"])
FORKING = pytest.mark.parametrize("pool", [p for p in POOLS if p.forks], ids=lambda p: p.id, indirect=False)
MANY_LANES = pytest.mark.parametrize("pool", [p for p in POOLS if p.lanes > 1], ids=lambda p: p.id)
EVERY = pytest.mark.parametrize("pool", POOLS, ids=lambda p: p.id)


def queued(tasks: ModuleType) -> tuple[int, int]:
    size = tasks.app.broker.size("celery")
    return size.ready, size.held


def stop(worker: WorkerProcess, number: int = signal.SIGTERM) -> str:
    """What it wrote, after it has ended well and all its processes are gone."""
    tree = worker.tree()
    assert worker.stop(number) == 0, worker.output()[-3000:]
    alive = still_running(tree)
    assert not alive
    output = worker.output()
    assert "Traceback" not in output or "task failed" in output, output[-3000:]
    return output


# -- one process dies --


@FORKING
@FORMS
def test_when_a_process_dies_nothing_is_lost_and_others_are_run_again(
    alone: Alone, pool: PoolCase, form: str, tmp_path: Path
) -> None:
    workers, tasks = alone
    start(workers, pool)
    go = tmp_path / "go"
    killer = tasks.crash.delay(str(go))
    wait_for(lambda: workers.ledger.begun()[killer.id], TIMEOUT)
    sent = [getattr(tasks, f"record{form}").delay(0.1) for _ in range(40)]
    wait_for(lambda: len(workers.ledger.begun()) > 1, TIMEOUT)
    go.touch()
    assert killer.get(timeout=TIMEOUT) == 1
    for result in sent:
        result.get(timeout=TIMEOUT)
    begun, ended = workers.ledger.begun(), workers.ledger.ended()
    assert set(begun) == set(ended) == {killer.id, *(result.id for result in sent)}
    again = [task for task, times in begun.items() if times > 1]
    assert len(again) <= pool.lanes, "only what ran in the process that died may run twice"
    wait_for(lambda: queued(tasks) == (0, 0), TIMEOUT)


@MANY_LANES
def test_a_task_that_kills_its_process_again_and_again_is_dead_lettered_and_its_neighbours_are_not(
    alone: Alone, pool: PoolCase, tmp_path: Path
) -> None:
    workers, tasks = alone
    worker = start(workers, pool)
    go = tmp_path / "go"
    killer = tasks.crash.delay(str(go), 100)
    sent = [tasks.record.delay(0.3) for _ in range(4 * pool.size)]
    wait_for(lambda: len(workers.ledger.begun()) > 1, TIMEOUT)
    go.touch()
    with pytest.raises(Exception, match="killed by signal 9"):
        killer.get(timeout=TIMEOUT)
    for result in sent:
        result.get(timeout=TIMEOUT)
    assert [letter.message.id for letter in tasks.app.broker.dead_letters("celery")] == [killer.id]
    assert worker.process.poll() is None


# -- the worker ends --


@EVERY
@FORMS
def test_a_warm_shutdown_finishes_what_runs_and_gives_back_the_rest(alone: Alone, pool: PoolCase, form: str) -> None:
    workers, tasks = alone
    worker = start(workers, pool)
    sent = [getattr(tasks, f"record{form}").delay(1.0) for _ in range(pool.size + 20)]
    wait_for(lambda: len(workers.ledger.begun()) == pool.size, TIMEOUT)
    began = time.monotonic()
    output = stop(worker)
    assert time.monotonic() - began < 2.5
    assert "killed" not in output
    ended = workers.ledger.ended()
    assert len(ended) == pool.size
    assert queued(tasks) == (20, 0)
    assert {result.id for result in sent if result.state == "SUCCESS"} == set(ended)


@EVERY
@FORMS
def test_a_cold_shutdown_gives_back_everything_at_once(alone: Alone, pool: PoolCase, form: str) -> None:
    workers, tasks = alone
    worker = start(workers, pool)
    for _ in range(pool.size + 20):
        getattr(tasks, f"record{form}").delay(30.0)
    wait_for(lambda: len(workers.ledger.begun()) == pool.size, TIMEOUT)
    began = time.monotonic()
    stop(worker, signal.SIGQUIT)
    assert time.monotonic() - began < 3.0
    assert queued(tasks) == (pool.size + 20, 0)
    assert not workers.ledger.ended()


@pytest.mark.parametrize("pool", [p for p in POOLS if p.id in ("prefork", "threads", "solo")], ids=lambda p: p.id)
def test_what_runs_at_most_once_is_not_given_back_by_a_cold_shutdown(alone: Alone, pool: PoolCase) -> None:
    workers, tasks = alone
    task = tasks.app.tasks["apps.ledger.record_at_most_once"]
    worker = start(workers, pool)
    running = task.delay(30.0)
    wait_for(lambda: workers.ledger.begun()[running.id], TIMEOUT)
    stop(worker, signal.SIGQUIT)
    assert queued(tasks) == (0, 0)
    with pytest.raises(WorkerLostError, match="its worker was stopped while it ran"):
        running.get(timeout=TIMEOUT)


@EVERY
def test_a_second_signal_makes_a_warm_shutdown_cold(alone: Alone, pool: PoolCase) -> None:
    workers, tasks = alone
    worker = start(workers, pool)
    tasks.record.delay(30.0)
    wait_for(lambda: workers.ledger.begun(), TIMEOUT)
    worker.send_signal(signal.SIGTERM)
    wait_for(lambda: "warm shutdown" in worker.output(), TIMEOUT)
    began = time.monotonic()
    stop(worker)
    assert time.monotonic() - began < 3.0
    assert queued(tasks) == (1, 0)


@FORKING
def test_when_the_supervisor_dies_its_executors_do_and_another_worker_goes_on(alone: Alone, pool: PoolCase) -> None:
    workers, tasks = alone
    workers.environment |= SHORT_LEASE
    first = start(workers, pool)
    sent = [tasks.record.delay(0.5) for _ in range(pool.size)]
    wait_for(lambda: len(workers.ledger.begun()) == pool.size, TIMEOUT)
    tree = first.tree()
    first.process.kill()
    first.process.wait(5)
    alive = still_running(tree)
    assert not alive
    start(workers, pool)
    for result in sent:
        result.get(timeout=TIMEOUT)


# -- what is used --


@pytest.mark.parametrize("name", ["prefork", "threads", "asyncio", "gevent", "eventlet", "solo"])
@FORMS
def test_one_lane_that_holds_one_task_runs_in_the_order_of_sending(alone: Alone, name: str, form: str) -> None:
    workers, tasks = alone
    sent = [getattr(tasks, f"record{form}").delay().id for _ in range(100)]
    workers.start("-P", name, "-c", "1", "--prefetch-multiplier", "1", app="apps.lanes")
    wait_for(lambda: len(workers.ledger.ended()) == 100, TIMEOUT)
    assert [entry.id for entry in workers.ledger.entries() if entry.event == "begin"] == sent


@FORKING
def test_descriptors_threads_and_processes_do_not_grow(alone: Alone, pool: PoolCase) -> None:
    workers, tasks = alone
    worker = start(workers, pool)

    def run(count: int) -> None:
        forms = [tasks.echo, tasks.echo_async, tasks.fail, tasks.loop_number]
        sent = [forms[0].delay("y" * 100_000) for _ in range(10)]
        sent += [task.delay("y") for task in forms[:2] for _ in range(count)]
        sent += [tasks.fail.delay("no luck") for _ in range(count // 4)]
        for result in sent:
            result.get(timeout=TIMEOUT, propagate=False)

    def used() -> Counter[str]:
        found: Counter[str] = Counter()
        for process in worker.tree():
            found += Counter(processes=1, fds=process.num_fds(), threads=process.num_threads())
        return found

    run(100)
    before = used()
    run(300)
    after = used()
    assert after["processes"] == before["processes"]
    assert after["fds"] <= before["fds"] + 2
    assert after["threads"] <= before["threads"] + pool.size
    stop(worker)


# -- only here --


def test_a_task_that_blocks_the_event_loop_is_shown_with_its_stack(alone: Alone) -> None:
    workers, tasks = alone
    worker = workers.start(
        "-P", "asyncio", "-c", "4", app="apps.lanes", environment={"UMBEL_WORKER_BLOCKING_THRESHOLD": "0.3"}
    )
    blocking = tasks.block_the_loop.delay(1.2).get(timeout=TIMEOUT)
    output = worker.output()
    assert "a task blocks the event loop" in output
    assert f"id={blocking}" in output.replace('"', "")
    assert "time.sleep(seconds)" in output
    wait_for(lambda: "the event loop runs again" in worker.output(), TIMEOUT)
    assert "blocks the event loop" not in worker.output().partition("runs again")[2]


def test_solo_runs_tasks_in_the_process_of_the_worker(alone: Alone) -> None:
    workers, tasks = alone
    worker = workers.start("-P", "solo", app="apps.lanes")
    assert tasks.record.delay().get(timeout=TIMEOUT) == worker.process.pid
    assert os.path.exists(f"/proc/{worker.process.pid}")
