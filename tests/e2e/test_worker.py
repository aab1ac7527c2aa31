"""One worker, from ``delay()`` to a stored result, on every broker."""

from __future__ import annotations

import asyncio
import datetime
import signal
import time
from types import ModuleType

import pytest

from chaos.scene import LEASE, SHORT_LEASE
from conformance.waiting import assert_prompt
from processes import runs
from umbel.errors import TaskRevokedError
from workers import Fleet, wait_for

TIMEOUT = 15


def settled(tasks: ModuleType) -> bool:
    size = tasks.app.broker.size("celery")
    return size.ready <= 0 and size.held <= 0


def test_results_come_back(workers: Fleet, tasks: ModuleType) -> None:
    workers.start("-c", "2")
    results = [tasks.add.delay(number, 1) for number in range(50)]
    assert [result.get(timeout=TIMEOUT) for result in results] == [number + 1 for number in range(50)]
    assert tasks.add_later.delay(2, 3).get(timeout=TIMEOUT) == 5
    wait_for(lambda: settled(tasks), what="everything is acknowledged")


def test_results_can_be_awaited(workers: Fleet, tasks: ModuleType) -> None:
    workers.start("-c", "1")

    async def run() -> list[int]:
        sent = [await tasks.add.adelay(number, number) for number in range(5)]
        return await asyncio.wait_for(asyncio.gather(*sent), TIMEOUT)

    assert asyncio.run(run()) == [0, 2, 4, 6, 8]


def test_an_exception_is_raised_by_get_with_its_remote_traceback(workers: Fleet, tasks: ModuleType) -> None:
    workers.start("-c", "1")
    result = tasks.fail.delay("no luck")
    with pytest.raises(ValueError, match="no luck"):
        result.get(timeout=TIMEOUT)
    assert result.state == "FAILURE"
    assert "raise ValueError(text)" in result.traceback


def test_a_retried_task_succeeds_in_the_end(workers: Fleet, tasks: ModuleType) -> None:
    workers.start("-c", "2")
    result = tasks.succeed_at.delay(3)
    assert result.get(timeout=TIMEOUT) == 3
    assert workers.ledger.begun()[result.id] == 4


def test_countdown_is_kept_to_a_fifth_of_a_second_while_nothing_else_runs(workers: Fleet, tasks: ModuleType) -> None:
    workers.start("-c", "1")
    tasks.record.delay().get(timeout=TIMEOUT)

    def once() -> float:
        sent = time.time()
        result = tasks.record.apply_async(countdown=0.7)
        result.get(timeout=TIMEOUT)
        (begun,) = [entry.at for entry in workers.ledger.entries() if entry[:2] == ("begin", result.id)]
        assert begun >= sent + 0.65
        return begun - sent

    assert_prompt(0.9, once)


def test_an_expired_task_does_not_run(workers: Fleet, tasks: ModuleType) -> None:
    result = tasks.record.apply_async(expires=datetime.datetime.now(datetime.UTC) + datetime.timedelta(seconds=0.2))
    expired_at = time.monotonic() + 0.3
    wait_for(lambda: time.monotonic() > expired_at)
    workers.start("-c", "1")
    last = tasks.add.delay(1, 1)
    last.get(timeout=TIMEOUT)
    wait_for(lambda: settled(tasks))
    assert workers.ledger.begun()[result.id] == 0
    if result.state != "PENDING":  # RabbitMQ drops an expired message by itself
        with pytest.raises(TaskRevokedError):
            result.get(timeout=TIMEOUT)


@pytest.mark.parametrize("size", [1 << 20, 5 << 20])
def test_large_arguments_and_results_arrive_whole(workers: Fleet, tasks: ModuleType, size: int) -> None:
    workers.start("-c", "1")
    assert tasks.length.delay("y" * size).get(timeout=TIMEOUT) == size
    assert tasks.big.delay(size).get(timeout=TIMEOUT) == "x" * size


def test_progress_is_seen_while_the_task_runs(workers: Fleet, tasks: ModuleType) -> None:
    workers.start("-c", "1")
    result = tasks.steps.delay(3)
    assert result.get(timeout=TIMEOUT) == 3


def test_an_idle_executor_gets_what_a_busy_one_has_not_begun(workers: Fleet, tasks: ModuleType) -> None:
    """Pain 9: tasks reserved behind a busy process while others idle."""
    workers.start("-c", "2")
    for result in [tasks.record.delay() for _ in range(200)]:
        result.get(timeout=TIMEOUT)
    long = tasks.record.delay(4.0)
    short = [tasks.record.delay() for _ in range(200)]
    for result in short:
        result.get(timeout=3)
    assert workers.ledger.ended()[long.id] == 0, "the short tasks were done while the long one ran"
    long.get(timeout=TIMEOUT)


def test_warm_shutdown_finishes_what_runs_and_gives_back_the_rest(workers: Fleet, tasks: ModuleType) -> None:
    worker = workers.start("-c", "2")
    ids = {tasks.record.delay(1.0).id for _ in range(10)}
    wait_for(lambda: len(workers.ledger.running()) == 2)
    running = workers.ledger.running()
    assert worker.stop() == 0
    begun = set(workers.ledger.begun())
    assert running <= begun < ids
    assert set(workers.ledger.ended()) == begun
    assert tasks.app.broker.size("celery").ready == len(ids - begun)
    workers.start("-c", "2")
    wait_for(lambda: set(workers.ledger.ended()) == ids, TIMEOUT)
    assert all(count == 1 for count in workers.ledger.begun().values())


def test_a_second_signal_ends_it_now_and_gives_back_what_runs(workers: Fleet, tasks: ModuleType) -> None:
    worker = workers.start("-c", "2")
    results = [tasks.record.delay(30.0) for _ in range(2)]
    wait_for(lambda: len(workers.ledger.running()) == 2)
    worker.send_signal(signal.SIGTERM)
    wait_for(lambda: "warm shutdown" in worker.output())
    started = time.monotonic()
    worker.stop()
    assert time.monotonic() - started < 5
    wait_for(lambda: tasks.app.broker.size("celery").ready == len(results))


def test_signals_that_come_while_it_ends_do_not_change_how_it_ends(workers: Fleet) -> None:
    worker = workers.start("-c", "1")
    while worker.process.poll() is None:
        worker.send_signal(signal.SIGTERM)
        time.sleep(0.002)  # from the first signal to the end of the process
    assert worker.process.returncode == 0


def test_grace_limits_how_long_a_warm_shutdown_waits(workers: Fleet, tasks: ModuleType) -> None:
    worker = workers.start("-c", "1", "--grace", "0.5")
    tasks.record.delay(30.0)
    wait_for(lambda: len(workers.ledger.running()) == 1)
    started = time.monotonic()
    worker.stop()
    assert 0.4 < time.monotonic() - started < 6
    wait_for(lambda: tasks.app.broker.size("celery").ready == 1)


def test_an_unknown_task_is_parked_and_runs_when_a_worker_knows_it(
    workers: Fleet, tasks: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Pain 25: deploys lose tasks."""
    result = tasks.app.send_task("apps.ledger.arrived_later", args=[20])
    first = workers.start("-c", "1")
    wait_for(lambda: tasks.app.broker.parked("celery") == {"apps.ledger.arrived_later": 1})
    tasks.add.delay(1, 1).get(timeout=TIMEOUT)
    first.stop()
    workers.start("-c", "1", environment={"LEDGER_DEPLOYED": "1"})
    assert result.get(timeout=TIMEOUT) == 21
    assert tasks.app.broker.parked("celery") == {}


def test_at_most_once_is_a_choice(workers: Fleet, tasks: ModuleType) -> None:
    worker = workers.start("-c", "1", environment=SHORT_LEASE)
    result = tasks.record_at_most_once.delay(30.0)
    wait_for(lambda: len(workers.ledger.running()) == 1)
    worker.kill()
    workers.start("-c", "1", "-n", "second@%h", environment=SHORT_LEASE)
    tasks.add.delay(1, 1).get(timeout=TIMEOUT)
    lease_over = time.monotonic() + 1.5 * LEASE
    wait_for(lambda: time.monotonic() > lease_over, 10)
    assert workers.ledger.begun()[result.id] == 1


def test_nothing_is_left_running_after_a_stop(workers: Fleet, tasks: ModuleType) -> None:
    worker = workers.start("-c", "3")
    tasks.add.delay(1, 1).get(timeout=TIMEOUT)
    tree = worker.tree()
    assert len(tree) == 5
    worker.stop()
    assert not [process for process in tree if runs(process)]
