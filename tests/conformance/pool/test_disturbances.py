"""Every pool under load x everything that can happen to it: nothing is lost, nothing is done twice but what a killed
process could not report any more, and nothing is left behind.

``UMBEL_TEST_ROUNDS=10`` does each harm ten times, to all forms of the pools; ``UMBEL_TEST_SYSTEMS=redis,rabbitmq``
names the brokers (sqlite, redis, postgresql, mariadb, rabbitmq).
"""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import pytest

from chaos.scene import MANY_CRASHES, SHORT_LEASE
from conformance.pool.conftest import place
from conformance.pool.pools import POOLS, PoolCase
from conformance.pool.stage import TIMEOUT, Stage
from processes import still_running
from workers import WorkerProcess, wait_for

ROUNDS = int(os.environ.get("UMBEL_TEST_ROUNDS", "1"))
SYSTEMS = os.environ.get("UMBEL_TEST_SYSTEMS", "redis").split(",")
CASES = POOLS if ROUNDS > 1 else [pool for pool in POOLS if "two processes" not in pool.id]

SOLO = "solo has no process for its tasks that could be killed"
SOLO_LIMITS = "solo refuses hard limits at start: a thread cannot be ended by force"
SOLO_SIZE = "solo refuses to be scaled: there is nothing to scale"


@dataclass(frozen=True)
class Disturbance:
    """``inflict`` does it, under load. ``kills``: processes are killed, and what they ran may run twice; ``vanishing``:
    and so are whole workers. ``steady``: afterwards the same worker uses as much as before. ``not_for_solo``: why it
    makes no sense there. ``sized``: the pool's size is among ``arguments``."""

    id: str
    inflict: Callable[[Stage], None]
    arguments: tuple[str, ...] = ()
    environment: Mapping[str, str] = field(default_factory=dict[str, str])
    kills: bool = False
    vanishing: bool = False
    steady: bool = False
    sized: bool = False
    not_for_solo: str = ""


# -- tasks and processes end --


def executors_are_killed(stage: Stage) -> None:
    for _ in range(2 * stage.rounds):
        wait_for(lambda: len(stage.worker.executors()) == stage.pool.processes, TIMEOUT, "a successor")
        stage.await_ended(stage.dice.randrange(5, 15))
        victim = stage.dice.choice(stage.worker.executors())
        victim.kill()
        still_running([victim])


def soft_limits(stage: Stage) -> None:
    tasks = stage.tasks
    for _ in range(stage.rounds):
        sent = [task.apply_async(soft_time_limit=0.2) for task in (tasks.overrun, tasks.overrun_async)]
        assert [stage.doom(each, "SUCCESS").get(timeout=TIMEOUT) for each in sent] == ["cleaned up"] * 2


def hard_limits(stage: Stage, names: tuple[str, ...]) -> None:
    for _ in range(stage.rounds):
        sent = [getattr(stage.tasks, name).apply_async(time_limit=0.3) for name in names]
        for each in sent:
            stage.doom(each, "FAILURE")
        wait_for(lambda sent=sent: all(each.ready() for each in sent), TIMEOUT, "they were ended")


def revocations(stage: Stage) -> None:
    """Of tasks that run, and of tasks that are queued, held or just beginning."""
    tasks = stage.tasks
    for _ in range(stage.rounds):
        running = [stage.doom(tasks.overrun.delay(), "REVOKED")]
        wait_for(lambda running=running: running[0].id in stage.ledger.begun(), TIMEOUT, "it runs")
        waiting = [stage.doom(task.delay(), "REVOKED") for task in [tasks.overrun, tasks.overrun_async] * 4]
        for each in running + waiting:
            each.revoke(terminate=True)
        wait_for(lambda sent=running + waiting: all(each.ready() for each in sent), TIMEOUT, "they were ended")


# -- workers end --


def whole_workers_are_killed(stage: Stage) -> None:
    """While another one works."""
    for _ in range(stage.rounds):
        victim = stage.worker
        stage.start_worker()
        stage.await_ended(20)
        victim.kill()


def shutdowns(stage: Stage, number: int) -> None:
    for _ in range(stage.rounds):
        assert stage.worker.stop(number) == 0, stage.worker.output()[-3000:]
        stage.start_worker()
        stage.await_ended(5)


def soft_shutdowns(stage: Stage) -> None:
    """One task takes longer than the time that is given, and is run again."""
    for _ in range(stage.rounds):
        slow = stage.load.send(stage.tasks.record, 3.0)
        wait_for(lambda slow=slow: slow in stage.ledger.begun(), TIMEOUT, "the slow one runs")
        assert stage.worker.stop(signal.SIGQUIT) == 0, stage.worker.output()[-3000:]
        assert slow not in stage.ledger.ended()
        stage.start_worker()
        stage.await_ended(5)


# -- processes and lanes come and go --


def replacement(stage: Stage) -> None:
    def replaced() -> int:
        return stage.worker.output().count("was replaced: it has run 10 tasks")

    wait_for(lambda: replaced() >= 2 * stage.pool.processes * stage.rounds, TIMEOUT, "executors were replaced")


def scaling(stage: Stage) -> None:
    for size in [1, 4] * 2 * stage.rounds:
        (stage.directory / "size").write_text(str(size))
        wait_for(partial(_last_size_is, stage.worker, size), TIMEOUT, f"{size} at a time")
        stage.await_ended(5)


def _last_size_is(worker: WorkerProcess, size: int) -> bool:
    lines = [line for line in worker.output().splitlines() if "resized" in line]
    return bool(lines) and f"to={size} " in f"{lines[-1]} "


def reloading(stage: Stage) -> None:
    for number in range(stage.rounds):
        (stage.directory / "watched" / "code.py").write_text(f"number = {number}")
        wait_for(
            lambda number=number: stage.worker.output().count("umbel.reload: reloaded") > number, TIMEOUT, "reloaded"
        )
        stage.await_ended(5)


DISTURBANCES = [
    Disturbance(
        "executors are killed",
        executors_are_killed,
        environment=MANY_CRASHES,
        kills=True,
        steady=True,
        not_for_solo=SOLO,
    ),
    Disturbance("soft limits", soft_limits, steady=True),
    Disturbance(
        "hard limits", partial(hard_limits, names=("overrun", "overrun_async")), steady=True, not_for_solo=SOLO_LIMITS
    ),
    Disturbance(
        "hard limits of what does not yield",
        partial(hard_limits, names=("swallow", "swallow_async")),
        kills=True,
        steady=True,
        not_for_solo=SOLO_LIMITS,
    ),
    Disturbance("revocations", revocations, steady=True),
    Disturbance(
        "whole workers are killed", whole_workers_are_killed, environment=SHORT_LEASE, kills=True, vanishing=True
    ),
    Disturbance("warm shutdown", partial(shutdowns, number=signal.SIGTERM)),
    Disturbance("soft shutdown", soft_shutdowns, environment={"UMBEL_WORKER_SOFT_SHUTDOWN_TIMEOUT": "0.5"}, kills=True),
    Disturbance("cold shutdown", partial(shutdowns, number=signal.SIGQUIT), kills=True),
    Disturbance("replacement", replacement, ("--max-tasks-per-child", "10")),
    Disturbance(
        "scaling",
        scaling,
        ("--autoscale", "4,1"),
        {"UMBEL_WORKER_AUTOSCALE_COOLDOWN": "0"},
        steady=True,
        sized=True,
        not_for_solo=SOLO_SIZE,
    ),
    Disturbance("reloading", reloading, ("--reload", "--reload-dir", "{directory}/watched")),
]


@pytest.mark.timeout(300)
@pytest.mark.parametrize("system", SYSTEMS)
@pytest.mark.parametrize("disturbance", DISTURBANCES, ids=lambda disturbance: disturbance.id)
@pytest.mark.parametrize("pool", CASES, ids=lambda pool: pool.id)
def test_nothing_is_lost_and_nothing_is_left_behind(
    pool: PoolCase, disturbance: Disturbance, system: str, tmp_path: Path
) -> None:
    if disturbance.not_for_solo and pool.id == "solo":
        pytest.skip(disturbance.not_for_solo)
    kind = ("-P", pool.id.partition(",")[0])
    more = [argument.format(directory=tmp_path) for argument in disturbance.arguments]
    arguments = (*(kind if disturbance.sized else pool.arguments), *more)
    environment = {"SIZE_FILE": str(tmp_path / "size"), "UMBEL_RUNTIME_DIR": str(tmp_path / "run")}
    with place(tmp_path, "apps.disturbed", system, **environment, **disturbance.environment) as (workers, tasks):
        stage = Stage(workers, tasks, pool, ROUNDS, arguments)
        (tmp_path / "size").write_text("4")
        (tmp_path / "watched").mkdir()
        worker = stage.start_worker()
        if disturbance.sized:
            wait_for(partial(_last_size_is, worker, 4), TIMEOUT, "all of it")
        with stage.under_load():
            before = stage.used()
            disturbance.inflict(stage)
        stage.reckon(kills=disturbance.kills, vanishing=disturbance.vanishing)
        if disturbance.steady:
            stage.await_as_before(before)
        stage.stop_all(vanishing=disturbance.vanishing)
