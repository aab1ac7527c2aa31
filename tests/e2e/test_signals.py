"""Signals of a real worker: each is sent, once, by the process where it is expected."""

from __future__ import annotations

import datetime
import json
import os
import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from umbel import signals
from umbel.message import Message
from workers import Fleet, WorkerProcess, fleet, imported, wait_for

TIMEOUT = 15
WITHOUT_LOGGING = "setup_logging"


@pytest.fixture(params=["sqlite", "redis"])
def system(request: pytest.FixtureRequest) -> str:
    return request.param


class Log:
    """The lines that ``apps.listening`` writes."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def lines(self, *names: str, **expected: Any) -> list[dict[str, Any]]:
        """Those of these signals with these values, oldest first."""
        text = self.path.read_text() if self.path.exists() else ""
        found = [json.loads(line) for line in text.rpartition("\n")[0].splitlines()]
        return [
            line
            for line in found
            if (not names or line["signal"] in names) and all(line.get(key) == value for key, value in expected.items())
        ]

    def wait(self, name: str, **expected: Any) -> dict[str, Any]:
        return wait_for(lambda: self.lines(name, **expected), what=f"signal {name} {expected}")[0]


@pytest.fixture
def log(tmp_path: Path) -> Log:
    return Log(tmp_path / "signals")


@pytest.fixture
def nodes(urls: tuple[str, str], tmp_path: Path, log: Log) -> Iterator[Fleet]:
    environment = {"SIGNALS_FILE": str(log.path), "SIGNALS_WITHOUT": WITHOUT_LOGGING}
    with fleet(tmp_path, *urls, **environment) as made:
        yield made


@pytest.fixture
def tasks(nodes: Fleet) -> Iterator[ModuleType]:
    """``apps.listening`` in this process too; its receivers are disconnected in the end."""
    with imported("apps.listening", nodes.environment) as module:
        yield module
    for each in vars(signals).values():
        if isinstance(each, signals.Signal):
            each.disconnect(module.record)


@pytest.fixture
def start(nodes: Fleet) -> Callable[..., WorkerProcess]:
    def start(*arguments: str, **environment: str) -> WorkerProcess:
        return nodes.start("-n", "w1@test", *arguments, app="apps.listening", environment=environment)

    return start


def test_the_life_of_a_worker(log: Log, tasks: ModuleType, start: Callable[..., WorkerProcess]) -> None:
    worker = start("-c", "2")
    supervisor = worker.process.pid
    log.wait("heartbeat_sent", pid=supervisor)
    wait_for(lambda: len(log.lines("worker_process_init")) == 2)
    executors, nursery = worker.executor_pids(), worker.nursery().pid
    assert {line["pid"] for line in log.lines("worker_process_init")} == executors
    assert [line["pid"] for line in log.lines("worker_before_create_process")] == [nursery, nursery]
    first = [
        "user_preload_options",
        "import_modules",
        "after_setup_logger",
        "after_setup_task_logger",
        "celeryd_init",
        "worker_init",
        "celeryd_after_setup",
    ]
    assert [line["signal"] for line in log.lines(pid=supervisor)][: len(first)] == first
    for name, sender in [("celeryd_init", "w1@test"), ("worker_init", "w1@test"), ("celeryd_after_setup", "w1@test")]:
        assert [line["sender"] for line in log.lines(name)] == [sender]
    assert log.lines("celeryd_init")[0]["arguments"] == ["conf", "instance", "options"]
    ready = log.wait("worker_ready")
    assert (ready["pid"], ready["sender"]) == (supervisor, "w1@test")
    setup_ends = log.lines("celeryd_after_setup")[0]["at"]
    assert all(setup_ends < line["at"] for line in log.lines("worker_before_create_process", "worker_process_init"))

    assert worker.stop() == 0
    (stopping,) = log.lines("worker_shutting_down")
    assert (stopping["sender"], stopping["sig"], stopping["how"], stopping["exitcode"]) == (
        "w1@test",
        "SIGTERM",
        "Warm",
        0,
    )
    assert {(line["pid"], line["exitcode"]) for line in log.lines("worker_process_shutdown")} == {
        (pid, 0) for pid in executors
    }
    (last,) = log.lines("worker_shutdown")
    assert last["pid"] == supervisor and log.lines(pid=supervisor)[-1] == last


def test_a_cold_shutdown_is_told_as_one(log: Log, tasks: ModuleType, start: Callable[..., WorkerProcess]) -> None:
    worker = start("-c", "1")
    worker.stop(signal.SIGQUIT)
    (stopping,) = log.lines("worker_shutting_down")
    assert (stopping["sig"], stopping["how"]) == ("SIGQUIT", "Cold")


def test_the_way_of_a_task(log: Log, tasks: ModuleType, start: Callable[..., WorkerProcess]) -> None:
    worker = start("-c", "1")
    client, supervisor, (executor,) = os.getpid(), worker.process.pid, wait_for(worker.executor_pids)
    for task in (tasks.add, tasks.add_later):
        result = task.delay(2, y=3)
        assert result.get(timeout=TIMEOUT) == 5
        told = [(line["signal"], line["pid"]) for line in log.lines() if line["id"] == result.id]
        assert sorted(told) == sorted(
            [
                ("before_task_publish", client),
                ("after_task_publish", client),
                ("task_sent", client),
                ("task_received", supervisor),
                ("task_prerun", executor),
                ("task_postrun", executor),
            ]
        )
        (received,), (prerun,) = log.lines("task_received", id=result.id), log.lines("task_prerun", id=result.id)
        assert received["at"] < prerun["at"]
        assert received["request"] == [task.name, [2], {"y": 3}]
        assert log.lines("task_success", sender=task.name)[0]["pid"] == executor
        assert log.lines("task_postrun", id=result.id)[0]["state"] == "SUCCESS"


@pytest.mark.parametrize("pool", ["threads", "asyncio", "gevent", "solo"])
def test_every_pool_sends_them(
    log: Log, tasks: ModuleType, start: Callable[..., WorkerProcess], pool: str, system: str
) -> None:
    if system != "sqlite":
        pytest.skip("the pool makes the difference, not the broker")
    if pool == "gevent":
        pytest.importorskip("gevent")
    worker = start("-P", pool, "-c", "2" if pool != "solo" else "1")
    results = [task.delay(number, 1) for number in range(10) for task in (tasks.add, tasks.add_later)]
    assert sum(result.get(timeout=TIMEOUT) for result in results) == 110
    pid = log.wait("worker_process_init")["pid"]
    assert (pid == worker.process.pid) == (pool == "solo")
    ids = sorted(result.id for result in results)
    for name in ("task_prerun", "task_postrun"):
        told = log.lines(name)
        assert sorted(line["id"] for line in told) == ids and {line["pid"] for line in told} == {pid}
    assert len(log.lines("task_success", pid=pid)) == 20
    assert worker.stop() == 0
    assert [line["pid"] for line in log.lines("worker_process_shutdown")] == [pid]


def test_failures_and_retries(log: Log, tasks: ModuleType, start: Callable[..., WorkerProcess]) -> None:
    worker = start("-c", "1")
    supervisor, (executor,) = worker.process.pid, wait_for(worker.executor_pids)
    failed, retried = tasks.fail.delay(), tasks.again.delay()
    with pytest.raises(ValueError, match="no luck"):
        failed.get(timeout=TIMEOUT)
    assert retried.get(timeout=TIMEOUT) == 1
    (failure,) = log.lines("task_failure")
    assert (failure["pid"], failure["id"], failure["exception"]) == (executor, failed.id, "ValueError('no luck')")
    (retry,) = log.lines("task_retry")
    assert (retry["pid"], retry["id"], retry["sender"]) == (executor, retried.id, tasks.again.name)
    assert [line["state"] for line in log.lines("task_postrun", id=retried.id)] == ["RETRY", "SUCCESS"]
    assert [line["pid"] for line in log.lines("before_task_publish", id=retried.id)] == [os.getpid(), executor]
    wait_for(lambda: len(log.lines("after_task_publish", id=retried.id)) == 2)
    assert log.lines("after_task_publish", id=retried.id)[1]["pid"] == supervisor
    assert len(log.lines("task_received", id=retried.id)) == 2


def test_what_is_not_run(log: Log, tasks: ModuleType, start: Callable[..., WorkerProcess]) -> None:
    past = datetime.datetime.now(datetime.UTC) - datetime.timedelta(seconds=1)
    expired = tasks.add.apply_async((1, 1), expires=past)
    tasks.app.send_task("nobody.knows", task_id="unknown-1")
    tasks.app.broker.publish([Message(id="", task="", queue="celery", headers=b"{}", body=b"[1]")])
    worker = start("-c", "1")
    supervisor = worker.process.pid
    revoked = log.wait("task_revoked")
    assert (revoked["pid"], revoked["id"], revoked["sender"]) == (supervisor, expired.id, tasks.add.name)
    assert revoked["expired"] is True
    unknown = log.wait("task_unknown")
    assert (unknown["pid"], unknown["id"], unknown["name"]) == (supervisor, "unknown-1", "nobody.knows")
    assert unknown["sender"] == "w1@test" and "nobody.knows" in unknown["exc"]
    rejected = log.wait("task_rejected")
    assert rejected["pid"] == supervisor and "unreadable message" in rejected["exc"]
    assert log.lines("task_received", "task_prerun", "task_failure") == []


def test_a_crash_is_a_failure_told_by_the_supervisor(
    log: Log, tasks: ModuleType, start: Callable[..., WorkerProcess]
) -> None:
    worker = start("-c", "1")
    result = tasks.crash.delay()
    failure = log.wait("task_failure")
    assert (failure["pid"], failure["id"], failure["sender"]) == (worker.process.pid, result.id, tasks.crash.name)
    assert "WorkerLostError" in failure["exception"] and "SIGSEGV" in failure["exception"]
    wait_for(lambda: len(log.lines("worker_process_init")) == 2, what="the replacement starts with the signal, too")
    assert tasks.add.delay(1, 1).get(timeout=TIMEOUT) == 2


def test_a_worker_is_set_up_by_its_signals(log: Log, tasks: ModuleType, start: Callable[..., WorkerProcess]) -> None:
    worker = start("-Q", "elsewhere", SIGNALS_CONCURRENCY="3")
    wait_for(lambda: len(worker.executor_pids()) == 3)
    assert tasks.add.apply_async((2, 3), queue="w1@test.dq").get(timeout=TIMEOUT) == 5


def test_failing_receivers_break_nothing(nodes: Fleet, log: Log, tasks: ModuleType) -> None:
    without = f"{WITHOUT_LOGGING},import_modules"
    environment = {"SIGNALS_FAIL": "yes", "SIGNALS_WITHOUT": without}
    worker = nodes.start("-c", "1", app="apps.listening", environment=environment)
    results = [tasks.add.delay(number, 1) for number in range(20)] + [tasks.again.delay()]
    assert [result.get(timeout=TIMEOUT) for result in results] == [*range(1, 21), 1]
    assert worker.stop() == 0
    assert "signal receiver failed: signal=task_received" in worker.output()
    assert "receiver of worker_ready" in worker.output()


def test_who_connects_to_setup_logging_sets_up_logging(nodes: Fleet, log: Log, tasks: ModuleType) -> None:
    worker = nodes.start("-l", "DEBUG", app="apps.listening", environment={"SIGNALS_WITHOUT": ""}, ready=False)
    line = log.wait("setup_logging")
    assert line["arguments"] == ["colorize", "format", "logfile", "loglevel"] and line["loglevel"] == 10
    log.wait("worker_ready")
    assert log.lines("after_setup_logger", "after_setup_task_logger") == []
    assert worker.stop() == 0
    assert "ready" not in worker.output()
