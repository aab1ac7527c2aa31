"""Workers grow and shrink with their load, in every kind of pool, and nothing is lost by that."""

from __future__ import annotations

import importlib
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from types import ModuleType

import pytest

from workers import Fleet, WorkerProcess, fleet, wait_for

TIMEOUT = 40
SWIFT = {"UMBEL_WORKER_AUTOSCALE_COOLDOWN": "1"}


@pytest.fixture(params=["redis"])
def system(request: pytest.FixtureRequest) -> str:
    return request.param


@pytest.fixture
def workers(urls: tuple[str, str], tmp_path: Path) -> Iterator[Fleet]:
    with fleet(tmp_path, *urls, SIZE_FILE=str(tmp_path / "size")) as made:
        yield made


@pytest.fixture
def lanes(tasks: ModuleType) -> ModuleType:
    """``apps.lanes`` in this process."""
    return importlib.import_module("apps.lanes")


def tell(file: Path, size: object) -> None:
    """What ``apps.scaled.FromFile`` reads, whole at any time."""
    other = file.with_suffix(".new")
    other.write_text(str(size))
    other.rename(file)


def sizes(worker: WorkerProcess) -> list[int]:
    """To which sizes it was changed, in order."""
    lines = [line for line in worker.output().splitlines() if "resized" in line]
    return [int(line.partition("to=")[2].split()[0]) for line in lines]


def most_at_once(workers: Fleet) -> int:
    running = most = 0
    for entry in workers.ledger.entries():
        running += 1 if entry.event == "begin" else -1
        most = max(most, running)
    return most


@pytest.mark.parametrize("window", [(), ("--prefetch-multiplier", "1")], ids=["adaptive", "one"])
def test_prefork_grows_by_processes_and_shrinks_again(
    workers: Fleet, tasks: ModuleType, window: tuple[str, ...]
) -> None:
    worker = workers.start("--autoscale", "4,1", *window, environment=SWIFT)
    wait_for(lambda: len(worker.executors()) == 1)
    ids = {tasks.record.delay(0.4).id for _ in range(30)}
    wait_for(lambda: len(worker.executors()) == 4, TIMEOUT)
    wait_for(lambda: set(workers.ledger.ended()) == ids, TIMEOUT)
    assert most_at_once(workers) == 4
    wait_for(lambda: len(worker.executors()) == 1, TIMEOUT)
    assert tasks.add.delay(1, 2).get(timeout=TIMEOUT) == 3
    assert set(workers.ledger.begun().values()) == {1}
    assert sizes(worker)[0] > 1 and sizes(worker)[-1] == 1
    assert worker.stop() == 0


@pytest.mark.parametrize("pool", ["threads", "asyncio", "gevent"])
def test_one_process_opens_and_closes_lanes(workers: Fleet, tasks: ModuleType, pool: str) -> None:
    worker = workers.start("--pool", pool, "--autoscale", "8,2", environment=SWIFT)
    ids = {tasks.record.delay(0.5).id for _ in range(40)}
    wait_for(lambda: set(workers.ledger.ended()) == ids, TIMEOUT)
    assert most_at_once(workers) == 8
    assert len(worker.executors()) == 1
    wait_for(lambda: sizes(worker)[-1] == 2, TIMEOUT)
    before = len(workers.ledger.entries())
    tasks.app.send_many([tasks.record.s(0.05) for _ in range(2)])
    wait_for(lambda: len(workers.ledger.entries()) == before + 4, TIMEOUT)
    assert set(workers.ledger.begun().values()) == {1}


@pytest.mark.parametrize("pool", ["threads", "asyncio", "gevent"])
def test_whole_processes_of_many_lanes(workers: Fleet, tasks: ModuleType, pool: str) -> None:
    worker = workers.start("--pool", pool, "--autoscale", "6,1", "-c", "2", environment=SWIFT)
    wait_for(lambda: len(worker.executors()) == 1)
    ids = {tasks.record.delay(0.5).id for _ in range(30)}
    wait_for(lambda: len(worker.executors()) == 3, TIMEOUT)
    wait_for(lambda: set(workers.ledger.ended()) == ids, TIMEOUT)
    wait_for(lambda: len(worker.executors()) == 1, TIMEOUT)
    assert set(workers.ledger.begun().values()) == {1}


@pytest.mark.parametrize("autoscaler", ["FromFile", "FromFileLater"])
def test_a_class_of_the_user_decides_and_running_tasks_survive_it(
    workers: Fleet, lanes: ModuleType, tmp_path: Path, autoscaler: str
) -> None:
    size = tmp_path / "size"
    tell(size, 4)
    environment = {"UMBEL_WORKER_AUTOSCALE_COOLDOWN": "0", "AUTOSCALER": autoscaler}
    worker = workers.start("--autoscale", "4,1", environment=environment, app="apps.scaled")
    wait_for(lambda: len(worker.executors()) == 4)
    long = [lanes.record.delay(3.0) for _ in range(4)]
    wait_for(lambda: len(workers.ledger.running()) == 4, TIMEOUT)
    tell(size, 1)
    wait_for(lambda: sizes(worker)[-1] == 1)
    quick = [lanes.record.delay(0.01) for _ in range(20)]
    assert len({result.get(timeout=TIMEOUT) for result in quick}) == 1
    assert len({result.get(timeout=TIMEOUT) for result in long}) == 4
    wait_for(lambda: len(worker.executors()) == 1)
    assert set(workers.ledger.begun().values()) == {1}
    assert "ERROR" not in worker.output()


@pytest.mark.parametrize("divided", [("-c", "1"), ()], ids=["processes", "lanes"])
@pytest.mark.parametrize("pool", ["prefork", "threads", "asyncio", "gevent"])
def test_what_has_not_begun_goes_to_others_whenever_the_size_changes(
    workers: Fleet, lanes: ModuleType, tmp_path: Path, pool: str, divided: tuple[str, ...]
) -> None:
    size = tmp_path / "size"
    tell(size, 2)
    environment = {"UMBEL_WORKER_AUTOSCALE_COOLDOWN": "0"}
    worker = workers.start("--pool", pool, "--autoscale", "2,1", *divided, environment=environment, app="apps.scaled")
    ids = {lanes.record.delay(0.01).id for _ in range(400)}
    wait_for(lambda: len(workers.ledger.ended()) > 20, TIMEOUT)
    for wanted in [1, 2] * 5:
        tell(size, wanted)
        wait_for(partial(lambda wanted: sizes(worker)[-1:] == [wanted], wanted), TIMEOUT)
    wait_for(lambda: set(workers.ledger.ended()) == ids, TIMEOUT)
    assert set(workers.ledger.begun().values()) == {1}
    assert "ERROR" not in worker.output()
    assert worker.stop() == 0


def test_with_a_window_of_one_a_retired_executor_takes_no_room_from_the_others(
    workers: Fleet, lanes: ModuleType, tmp_path: Path
) -> None:
    size = tmp_path / "size"
    tell(size, 2)
    environment = {"UMBEL_WORKER_AUTOSCALE_COOLDOWN": "0"}
    worker = workers.start(
        "--autoscale", "2,1", "--prefetch-multiplier", "1", environment=environment, app="apps.scaled"
    )
    wait_for(lambda: len(worker.executors()) == 2)
    gates = {lanes.crash.delay(str(tmp_path / name), 0).id: tmp_path / name for name in ("one", "two")}
    wait_for(lambda: workers.ledger.running() == set(gates), TIMEOUT)
    tell(size, 1)
    wait_for(lambda: sizes(worker)[-1:] == [1], TIMEOUT)
    quick = [lanes.record.delay(0.01) for _ in range(5)]
    stays, goes = sorted(workers.ledger.entries(), key=lambda entry: entry.pid)  # of two alike the later one is retired
    gates[stays.id].touch()
    assert {result.get(timeout=TIMEOUT) for result in quick} == {stays.pid}
    assert workers.ledger.running() == {goes.id}
    gates[goes.id].touch()
    wait_for(lambda: len(worker.executors()) == 1, TIMEOUT)


def test_an_autoscaler_that_fails_is_shown_once_and_changes_nothing(
    workers: Fleet, lanes: ModuleType, tmp_path: Path
) -> None:
    size = tmp_path / "size"
    tell(size, "many")
    worker = workers.start(
        "--autoscale", "3,2", environment={"UMBEL_WORKER_AUTOSCALE_COOLDOWN": "0"}, app="apps.scaled"
    )
    wait_for(lambda: "the autoscaler failed" in worker.output())
    assert "invalid literal for int() with base 10: 'many'" in worker.output()
    assert lanes.record.delay().get(timeout=TIMEOUT)
    assert len(worker.executors()) == 2
    tell(size, 100)
    wait_for(lambda: len(worker.executors()) == 3, TIMEOUT)
    assert worker.output().count("the autoscaler failed") == 1
    assert worker.stop() == 0


def test_what_it_is_told(workers: Fleet, lanes: ModuleType, tmp_path: Path) -> None:
    workers.start("--autoscale", "2,1", "-Q", "celery", environment={"AUTOSCALER": "Measuring"}, app="apps.scaled")
    results = [lanes.record.delay(1.5) for _ in range(8)]
    report = tmp_path / "size"

    def told() -> str:
        return report.read_text() if report.exists() else ""

    wait_for(lambda: "busy=1" in told(), TIMEOUT)
    assert "size=1, minimum=1, maximum=2" in told() and "queues={'celery': " in told()
    memory = int(told().partition("memory=")[2].rstrip(")"))
    assert 20_000 < memory < 2_000_000
    [result.get(timeout=TIMEOUT) for result in results]


def test_work_is_begun_within_moments_where_the_minimum_is_zero(workers: Fleet, tasks: ModuleType) -> None:
    worker = workers.start("--autoscale", "3", environment=SWIFT)
    wait_for(lambda: len(worker.executors()) == 1)
    started = time.monotonic()
    assert tasks.add.delay(2, 2).get(timeout=TIMEOUT) == 4
    assert time.monotonic() - started < 5


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["--autoscale", "3,10"], "the minimum 10 is above the maximum 3"),
        (["--autoscale", "many"], "whole numbers"),
        (["--autoscale", "2,1", "--pool", "solo"], "nothing to scale"),
    ],
)
def test_bad_limits_are_one_line(arguments: list[str], says: str, tmp_path: Path) -> None:
    worker = WorkerProcess({"LEDGER_BROKER": f"sqlite:///{tmp_path / 'never.db'}"}, tmp_path / "log", *arguments)
    assert worker.process.wait(20) == 1
    assert says in worker.output() and worker.output().count("\n") == 1
