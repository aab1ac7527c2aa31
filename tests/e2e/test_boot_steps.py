"""Boot steps of users in real workers."""

from __future__ import annotations

import json
import signal
import time
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from umbel.brokers.base import Note
from umbel.message import Message, new_id
from workers import Fleet, WorkerProcess, wait_for

TIMEOUT = 15
ONE = pytest.mark.parametrize("system", ["sqlite"], indirect=True)
SOME = pytest.mark.parametrize("system", ["sqlite", "redis", "rabbitmq"], indirect=True)

Start = Callable[..., WorkerProcess]


@pytest.fixture
def hooks(tmp_path: Path) -> Callable[[], list[str]]:
    """What the steps wrote, line by line, without the ticks of the timer."""
    path = tmp_path / "steps"

    def read() -> list[str]:
        lines = path.read_text().splitlines() if path.exists() else []
        return [line for line in lines if not line.startswith("tick")]

    return read


@pytest.fixture
def start(workers: Fleet, tmp_path: Path) -> Start:
    def start(*arguments: str, ready: bool = True, **environment: str) -> WorkerProcess:
        environment["STEPS_FILE"] = str(tmp_path / "steps")
        return workers.start("-c", "1", *arguments, environment=environment, ready=ready, app="apps.stepped")

    return start


@ONE
def test_steps_live_with_their_worker(
    start: Start, hooks: Callable[[], list[str]], tasks: ModuleType, tmp_path: Path
) -> None:
    worker = start("--greeting", "hello", "-n", "node@host")
    assert tasks.app.send_task("apps.stepped.greeting").get(timeout=TIMEOUT) == "hello", "__init__ is before the fork"
    wait_for(lambda: "tick node@host" in (tmp_path / "steps").read_text())
    wait_for(lambda: "start AfterTasks" in hooks())
    assert worker.stop() == 0
    assert hooks() == [
        "init Base",
        "init AtPool",
        "init AtLink",
        "init AfterTasks",
        "create AtLink",
        "create AfterTasks",
        "create Base",
        "create AtPool",
        "start Base",
        "start Loop False",
        "start AtPool",
        "link True True",
        "start AtLink",
        "start AfterTasks",
        "close AfterTasks",
        "close AtLink",
        "close AtPool",
        "close Base",
        "stop AfterTasks",
        "stop AtLink",
        "stop AtPool",
        "stop Loop True",
        "stop Base",
        "shutdown AfterTasks",
        "shutdown AtLink",
        "shutdown AtPool",
        "shutdown Base",
    ]


@ONE
def test_steps_stop_in_relation_to_tasks(
    start: Start, workers: Fleet, tasks: ModuleType, hooks: Callable[[], list[str]]
) -> None:
    """What requires the pool stops before tasks have ended, what does not stops after."""
    worker = start()
    result = tasks.record.delay(1.5)
    wait_for(workers.ledger.running)
    worker.send_signal(signal.SIGTERM)
    wait_for(lambda: "stop AtPool" in hooks())
    assert workers.ledger.running() == {result.id}
    assert "stop Base" not in hooks()
    assert worker.process.wait(TIMEOUT) == 0
    assert workers.ledger.ended()[result.id] == 1 and "stop Base" in hooks()
    assert result.get(timeout=TIMEOUT) == result.id


@ONE
def test_a_cold_shutdown_terminates(start: Start, hooks: Callable[[], list[str]]) -> None:
    assert start().stop(signal.SIGQUIT) == 0
    assert {"terminate AfterTasks", "terminate AtLink", "terminate AtPool", "terminate Base"} <= set(hooks())
    assert not any(line.startswith("stop") and "Loop" not in line for line in hooks())


@ONE
@pytest.mark.parametrize("step", ["Base.init", "AtPool.create", "Base.start", "AtPool.start", "AtLink.start"])
def test_a_step_that_fails_at_the_start_ends_the_worker(
    start: Start, hooks: Callable[[], list[str]], step: str
) -> None:
    worker = start(ready=False, STEPS_MISDEED=step)
    assert worker.process.wait(TIMEOUT) == 1
    name, hook = step.split(".")
    blueprint = "consumer" if name == "AtLink" else "worker"
    verb = {"init": "made", "create": "created", "start": "started"}[hook]
    says = f"umbel: step apps.stepped.{name} of the {blueprint} cannot be {verb}: ValueError: no luck in {hook}"
    assert worker.output().splitlines()[-1] == says
    assert "umbel.worker: ready" not in worker.output()
    started = [line.split()[1] for line in hooks() if line.startswith("start") and line != f"start {name}"]
    stopped = [line.split()[1] for line in hooks() if line.startswith("stop")]
    assert stopped == started[::-1]
    assert not worker.tree()


@ONE
@pytest.mark.parametrize("step", ["AtPool.stop", "AtLink.close", "AfterTasks.shutdown"])
def test_a_step_that_fails_at_the_end_does_not_keep_the_others(
    start: Start, hooks: Callable[[], list[str]], step: str
) -> None:
    worker = start(STEPS_MISDEED=step)
    assert worker.stop() == 0
    name, hook = step.split(".")
    assert f"{hook} of step apps.stepped.{name} failed" in worker.output()
    assert f"ValueError: no luck in {hook}" in worker.output()
    assert {"stop Base", "stop AtLink", "stop AfterTasks", "shutdown Base"} <= set(hooks())


@ONE
def test_a_step_that_does_not_come_to_an_end_is_left_behind(start: Start, hooks: Callable[[], list[str]]) -> None:
    worker = start(STEPS_MISDEED="AtPool.stop:hang")
    begun = time.monotonic()
    assert worker.stop() == 0
    assert time.monotonic() - begun < 8
    assert "stop of step apps.stepped.AtPool: it took over 1.0 s and was left behind" in worker.output()
    assert "stop Base" in hooks()


@ONE
def test_a_worker_can_be_stopped_while_a_step_hangs_at_the_start(start: Start, hooks: Callable[[], list[str]]) -> None:
    worker = start(STEPS_MISDEED="AtLink.start:hang", ready=False)
    wait_for(lambda: "start AtLink" in hooks())
    assert worker.stop(timeout=20) == 0
    assert "stop Base" in hooks() and "start AfterTasks" not in hooks()


@pytest.mark.parametrize("system", ["redis"], indirect=True)
def test_steps_of_the_consumer_are_started_again_with_a_new_link(
    start: Start, workers: Fleet, tasks: ModuleType, hooks: Callable[[], list[str]]
) -> None:
    worker = start(DEAF_LINKS="1", UMBEL_WORKER_STALL_TIMEOUT="1")
    ids = {tasks.record.delay().id for _ in range(5)}
    wait_for(lambda: set(workers.ledger.ended()) == ids, TIMEOUT)
    wait_for(lambda: hooks().count("start AfterTasks") == 2)
    assert worker.stop() == 0
    assert [line for line in hooks() if line.split()[0] in ("start", "stop") and "A" in line][2:8] == [
        "start AfterTasks",
        "stop AfterTasks",
        "stop AtLink",
        "start AtLink",
        "start AfterTasks",
        "stop AfterTasks",
    ]
    assert hooks().count("shutdown AtLink") == 1 and hooks().count("init AtLink") == 1


def order(**body: Any) -> Message:
    """A message that is no task, as any program might send it."""
    return Message(id=new_id(), task="", queue="orders", headers=b"{}", body=json.dumps(body).encode())


@SOME
def test_a_consumer_step_receives_messages_that_are_no_tasks(
    start: Start, workers: Fleet, tasks: ModuleType, hooks: Callable[[], list[str]]
) -> None:
    broker = tasks.app.broker
    worker = start(STEPS_CONSUME="1")
    broker.publish([order(order=what) for what in ("tea", "again", "impossible")])
    broker.broadcast("news", Note(b'{"text": "hello"}'))
    wait_for(lambda: {"order tea", "order once", "order again", "note hello"} <= set(hooks()), TIMEOUT)
    wait_for(lambda: workers.ledger.ended()["order-tea"] == 1, TIMEOUT)
    wait_for(lambda: len(broker.dead_letters("orders")) == 1)
    (dead,) = broker.dead_letters("orders")
    assert "ValueError: no such order" in dead.reason
    started = time.monotonic()
    assert worker.stop() == 0
    assert time.monotonic() - started < 5
    broker.publish([order(order="coffee")])
    wait_for(lambda: broker.size("orders").ready == 1)
    start(STEPS_CONSUME="1")
    wait_for(lambda: "order coffee" in hooks(), TIMEOUT)
    wait_for(lambda: broker.size("orders").ready == 0 and broker.size("orders").held <= 0)
