"""Rate limits with real workers: the rate holds for the cluster, others pass, nothing is lost when workers die."""

from __future__ import annotations

import importlib
import os
import signal
import sys
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from umbel.sending import prepare
from workers import Fleet, wait_for

APP = "apps.limited"
CATCH_UP = 1.0


@pytest.fixture(params=["sqlite", "redis", "postgresql", "rabbitmq"])
def system(request: pytest.FixtureRequest) -> str:
    return request.param


@pytest.fixture
def limited(workers: Fleet) -> Iterator[ModuleType]:
    """``apps.limited`` in this process."""
    os.environ.update(workers.environment)
    sys.modules.pop(APP, None)
    module = importlib.import_module(APP)
    try:
        yield module
    finally:
        module.app.close()
        for name in (APP, "apps.ledger"):
            sys.modules.pop(name, None)
        for name in workers.environment:
            os.environ.pop(name, None)


def send(task: Any, count: int, *args: Any) -> list[str]:
    messages = [prepare(task.app, task.name, args, {}, {}, task) for _ in range(count)]
    task.app.publish(messages)
    return [message.id for message in messages]


def moments(workers: Fleet, ids: Sequence[str]) -> list[float]:
    """When these ran, in order."""
    wanted = set(ids)
    return sorted(entry.at for entry in workers.ledger.entries() if entry.id in wanted)


def all_ran(workers: Fleet, ids: Sequence[str], timeout: float) -> list[float]:
    wait_for(lambda: set(workers.ledger.begun()) >= set(ids), timeout, "all have run")
    return moments(workers, ids)


def check_rate(times: Sequence[float], rate: float) -> None:
    """No second has more than may be, and not much was lost."""
    first = 0
    for last, moment in enumerate(times):
        while times[first] <= moment - 1.0:
            first += 1
        assert last - first + 1 <= rate * (1 + CATCH_UP) + 2 + rate * 0.3, "too many within a second"
    assert times[-1] - times[0] >= (len(times) - 1) / rate - CATCH_UP - 0.5


def test_two_workers_keep_one_rate_while_others_pass(workers: Fleet, limited: ModuleType) -> None:
    slow = send(limited.slow, 150)
    free = send(limited.free, 500)
    workers.start("-c", "1", "-n", "a@h", app=APP)
    workers.start("-c", "1", "-n", "b@h", app=APP)
    all_ran(workers, free, 30)
    assert len(moments(workers, slow)) < 150, "the free tasks waited for limited ones"
    times = all_ran(workers, slow, 60)
    check_rate(times, 20)
    assert times[-1] - times[0] < 3 * 150 / 20
    assert set(workers.ledger.begun().values()) == {1}


def test_workers_that_die_and_come_back_lose_nothing_and_exceed_nothing(workers: Fleet, limited: ModuleType) -> None:
    slow = send(limited.slow, 120)
    first = workers.start("-c", "1", "-n", "a@h", app=APP)
    wait_for(lambda: len(moments(workers, slow)) >= 20, 30)
    first.kill()
    second = workers.start("-c", "1", "-n", "a@h", app=APP)
    wait_for(lambda: len(moments(workers, slow)) >= 50, 40)
    assert second.stop(signal.SIGTERM) == 0
    workers.start("-c", "1", "-n", "b@h", app=APP)
    check_rate(all_ran(workers, slow, 60), 20)


@pytest.fixture
def quorum(workers: Fleet) -> None:
    """Queues of the type that keeps its messages on RabbitMQ."""
    workers.environment["UMBEL_TASK_DEFAULT_QUEUE_TYPE"] = "quorum"


@pytest.mark.usefixtures("quorum")
class TestALongBacklog:
    """Thousands that wait for one rate."""

    @pytest.mark.alone
    @pytest.mark.parametrize(
        ("system", "name"), [("redis", "paced"), ("rabbitmq", "paced"), ("rabbitmq", "paced_by_worker")]
    )
    def test_runs_at_its_rate_from_the_beginning_and_lets_others_pass(
        self, workers: Fleet, limited: ModuleType, name: str
    ) -> None:
        backlog = send(getattr(limited, name), 3000)
        free = send(limited.free, 100)
        workers.start("-c", "2", "-n", "a@h", app=APP)
        begun = all_ran(workers, backlog[:1], 20)[0]
        others = all_ran(workers, free, 20)
        assert others[-1] - begun < 15, "the free tasks waited for limited ones"
        wait_for(lambda: time.time() - begun > 7, 20)
        times = moments(workers, backlog)
        check_rate(times, 50)
        measured = [moment for moment in times if 1 <= moment - begun < 6]
        assert len(measured) >= 0.6 * 5 * 50, "the rate was not reached"
        assert set(workers.ledger.begun().values()) == {1}

    @pytest.mark.calm
    @pytest.mark.parametrize("system", ["redis", "rabbitmq"])
    def test_loses_and_doubles_nothing(self, workers: Fleet, limited: ModuleType) -> None:
        backlog = send(limited.quick, 2500)
        workers.start("-c", "1", "-n", "a@h", app=APP)
        workers.start("-c", "1", "-n", "b@h", app=APP)
        all_ran(workers, backlog, 90)
        assert set(workers.ledger.begun().values()) == {1}


class TestOnOneSystem:
    """What does not depend on the broker."""

    @pytest.fixture(params=["redis"])
    def system(self, request: pytest.FixtureRequest) -> str:
        return request.param

    def test_each_key_has_its_rate(self, workers: Fleet, limited: ModuleType) -> None:
        workers.start("-c", "1", "-n", "a@h", app=APP)
        workers.start("-c", "1", "-n", "b@h", app=APP)
        sent = {tenant: send(limited.keyed, 30, tenant) for tenant in ("north", "south")}
        for ids in sent.values():
            check_rate(all_ran(workers, ids, 30), 10)

    def test_a_key_that_fails_fails_its_task_and_keeps_the_message(self, workers: Fleet, limited: ModuleType) -> None:
        workers.start("-c", "1", app=APP)
        good, bad = limited.divided.delay(2.0), limited.divided.delay(0)
        assert good.get(timeout=20) == 2.0
        bad.get(timeout=20, propagate=False)
        assert bad.state == "FAILURE"
        assert "rate_limit_key of task apps.limited.divided cannot be computed: ZeroDivisionError" in str(bad.result)
        (letter,) = limited.app.broker.dead_letters("celery")
        assert letter.message.id == bad.id

    def test_by_default_each_worker_has_its_own_rate(self, workers: Fleet, limited: ModuleType) -> None:
        workers.start("-c", "1", "-n", "a@h", app=APP)
        workers.start("-c", "1", "-n", "b@h", app=APP)
        times = all_ran(workers, ids := send(limited.each, 100), 60)
        check_rate(times, 20)
        by_worker = Counter(entry.pid for entry in workers.ledger.entries() if entry.id in set(ids))
        for pid in by_worker:
            own = [entry.at for entry in workers.ledger.entries() if entry.pid == pid]
            check_rate(sorted(own), 10)
        assert len(by_worker) == 2

    def test_limits_can_be_disabled(self, workers: Fleet, limited: ModuleType, tmp_path: Path) -> None:
        slow = send(limited.slow, 400)
        workers.start("-c", "1", app=APP, environment={"UMBEL_WORKER_DISABLE_RATE_LIMITS": "1"})
        times = all_ran(workers, slow, 15)
        assert times[-1] - times[0] < 10
