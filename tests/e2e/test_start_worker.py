"""Whole workers in a thread of the test process: every pool, any broker, and nothing left behind."""

from __future__ import annotations

import logging
import os
import threading
import time
from collections.abc import Callable, Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import psutil
import pytest

from umbel import Umbel, chord, group
from umbel.bootsteps import StartStopStep
from umbel.errors import BrokerError, ConfigurationError, OperationalError, TaskRevokedError, TimeoutError, UmbelError
from umbel.result import allow_join_result
from umbel.testing import start_worker
from umbel.testing.apps import app_for_tests
from workers import wait_for

PROCESSES = ["prefork", "threads", "asyncio"]
ALL = ["solo", *PROCESSES]


@pytest.fixture
def app() -> Iterator[Umbel]:
    with app_for_tests() as app:
        yield app


def define(app: Umbel) -> dict[str, Any]:
    """Tasks that exist in this process only."""

    def add(x: int, y: int) -> int:
        return x + y

    def where() -> int:
        return os.getpid()

    def spread(self: Any, number: int) -> list[str]:
        return [add.delay(n, n).id for n in range(number)]

    add = app.make_task(add, name="add")
    return {
        "add": add,
        "where": app.make_task(where, name="where"),
        "spread": app.make_task(spread, name="spread", bind=True),
        "total": app.make_task(sum, name="total"),
    }


@pytest.mark.parametrize("pool", ALL)
def test_every_pool_on_memory(app: Umbel, pool: str) -> None:
    tasks = define(app)
    with start_worker(app, pool=pool, concurrency=1 if pool == "solo" else 2) as worker:
        assert worker.worker is not None and worker.worker.kind.name == pool
        assert (tasks["where"].delay().get(timeout=20) == os.getpid()) is (pool == "solo")
        ids = tasks["spread"].delay(5).get(timeout=20)
        assert [app.AsyncResult(each).get(timeout=20) for each in ids] == [0, 2, 4, 6, 8]
        body = tasks["total"].s() | tasks["add"].s(1)
        assert chord([tasks["add"].s(n, n) for n in range(4)], body).delay().get(timeout=20) == 13


@pytest.mark.parametrize("pool", PROCESSES)
def test_processes_reach_the_memory_of_this_one(app: Umbel, pool: str) -> None:
    add = define(app)["add"]

    @app.task(name="ask", bind=True)
    def ask(self: Any) -> Any:
        app.broker.publish([])
        sent = add.delay(2, 3)
        with allow_join_result():
            value = sent.get(timeout=20)
        later = add.apply_async((9, 9), countdown=3600)
        later.revoke()
        size = app.broker.size("celery")
        with pytest.raises(BrokerError, match="in the process that has the memory"):
            app.broker.lock("name", 1.0)
        with allow_join_result():
            with pytest.raises(TimeoutError):
                add.apply_async((9, 9), countdown=3600).get(timeout=0.05)
            with pytest.raises(TaskRevokedError):
                later.get(timeout=20)
        group_id = group(add.s(1, 1)).freeze().save()
        return value, size.delayed, app.AsyncResult(sent.id).state, later.whereabouts(), group_id

    with start_worker(app, pool=pool, concurrency=2):
        value, delayed, state, place, _ = ask.delay().get(timeout=20)
        assert (value, delayed, state, place) == (5, 1, "SUCCESS", "ended")
    assert app.broker.size("celery").delayed == 2
    assert app.broker.revocations().since(0.0)[1]


@pytest.mark.parametrize("server", ["redis", "sqlite"])
def test_prefork_on_other_brokers(server: str, fresh_url: Callable[[str], str], tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/a.db" if server == "sqlite" else fresh_url(server)
    with app_for_tests({"broker_url": url, "result_backend": url}) as app:
        tasks = define(app)
        with start_worker(app, pool="prefork", concurrency=2):
            assert tasks["where"].delay().get(timeout=20) != os.getpid()
            whole = chord([tasks["add"].s(n, n) for n in range(10)], tasks["total"].s())
            assert whole.delay().get(timeout=20) == 90
            assert tasks["add"].delay(1, 1).get(timeout=20) == 2


@pytest.mark.parametrize("pool", ["gevent"])
def test_pools_that_patch_need_an_importable_application(app: Umbel, pool: str, tmp_path: Path) -> None:
    if find_spec(pool) is None:
        pytest.skip(f"{pool} is not installed")
    from apps import importable

    with pytest.raises(ConfigurationError, match="no module has it as a global variable"), start_worker(app, pool=pool):
        pass
    url = f"sqlite:///{tmp_path}/a.db"
    importable.app.conf.update(broker_url="memory://", result_backend=url)
    with pytest.raises(ConfigurationError, match="no forks of this one"), start_worker(importable.app, pool=pool):
        pass
    importable.app.conf.update(broker_url=url)
    importable.app.close()
    with start_worker(importable.app, pool=pool, concurrency=3):
        results = [importable.where.delay(number) for number in range(5)]
        found = [result.get(timeout=30) for result in results]
    assert [number for number, _ in found] == list(range(5)) and os.getpid() not in {pid for _, pid in found}
    importable.app.close()


class Traces:
    """What there is of a worker in this process beyond what was there before."""

    def __init__(self) -> None:
        self._threads, self._files = set(threading.enumerate()), set(open_files())
        self._children = set(children())
        self._level = logging.getLogger("umbel").level
        self._executors: set[int] = set()

    def note_processes(self) -> None:
        """These must have gone in the end."""
        self._executors = set(children()) - self._children

    def assert_gone(self) -> None:
        try:
            wait_for(lambda: not any(self._found()))
        except AssertionError:
            raise AssertionError(self._found()) from None
        assert logging.getLogger("umbel").level == self._level

    def _found(self) -> tuple[set[threading.Thread], set[int], set[str]]:
        alive = {pid for pid in self._executors if psutil.pid_exists(pid)}
        return set(threading.enumerate()) - self._threads, alive, set(open_files()) - self._files


def children() -> list[int]:
    return [child.pid for child in psutil.Process().children(recursive=True)]


def open_files() -> Iterator[str]:
    for fd in os.listdir("/proc/self/fd"):
        try:
            yield f"{fd} {os.readlink(f'/proc/self/fd/{fd}')}"
        except FileNotFoundError:
            continue


@pytest.mark.parametrize("pool", ["solo", "prefork", "threads"])
def test_nothing_is_left_behind(app: Umbel, pool: str, tmp_path: Path) -> None:
    tasks = define(app)
    with start_worker(app, pool=pool):
        tasks["add"].delay(1, 1).get(timeout=20)
    traces = Traces()
    for log in (None, str(tmp_path / "worker.log")):
        with start_worker(app, pool=pool, loglevel="INFO", logfile=log):
            tasks["spread"].delay(3).get(timeout=20)
            traces.note_processes()
        traces.assert_gone()
    text = (tmp_path / "worker.log").read_text()
    assert "ready" in text and "task succeeded" in text


def test_nothing_is_left_behind_by_a_test_that_fails(app: Umbel) -> None:
    add = define(app)["add"]
    with start_worker(app, pool="prefork"):
        add.delay(1, 1).get(timeout=20)
    traces = Traces()
    with pytest.raises(KeyError, match="own"), start_worker(app, pool="prefork"):
        traces.note_processes()
        raise KeyError("own")
    traces.assert_gone()


def test_running_tasks_are_given_back_after_the_timeout(app: Umbel, tmp_path: Path) -> None:
    mark = tmp_path / "begun"

    @app.task(name="long")
    def long() -> None:
        mark.touch()
        time.sleep(60)

    traces = Traces()
    began = time.monotonic()
    with (
        pytest.raises(TimeoutError, match=r"still running after 0\.3 s"),
        start_worker(app, pool="prefork", shutdown_timeout=0.3),
    ):
        long.delay()
        wait_for(mark.exists)
        traces.note_processes()
    assert time.monotonic() - began < 30
    assert app.broker.size("celery").ready == 1
    traces.assert_gone()


def test_a_warm_stop_waits_for_what_runs(app: Umbel, tmp_path: Path) -> None:
    mark = tmp_path / "begun"

    @app.task(name="short")
    def short() -> str:
        mark.touch()
        time.sleep(0.5)
        return "done"

    with start_worker(app, pool="threads"):
        result = short.delay()
        wait_for(mark.exists)
    assert result.get(timeout=1) == "done"


def test_what_keeps_a_worker_from_starting_is_raised(app: Umbel) -> None:
    class Broken(StartStopStep):
        def start(self, worker: Any) -> None:
            raise OSError("no such device")

    traces = Traces()
    with pytest.raises(ConfigurationError, match="unknown pool"), start_worker(app, pool="nothing"):
        pass
    app.steps["worker"].add(Broken)
    with pytest.raises(UmbelError, match="no such device"), start_worker(app):
        pass
    traces.assert_gone()


def test_a_worker_that_does_not_answer_fails_the_ping_check(app: Umbel) -> None:
    app.make_task(lambda: time.sleep(1), name="celery.ping")
    with pytest.raises(TimeoutError), start_worker(app, ping_task_timeout=0.1):
        pass
    with start_worker(app, perform_ping_check=False):
        pass


def test_a_broker_that_cannot_be_reached(app: Umbel) -> None:
    app.conf.update(broker_url="redis://localhost:1", broker_connection_retry_on_startup=False)
    app.close()
    with pytest.raises(OperationalError), start_worker(app, pool="prefork"):
        pass
    app.conf.update(broker_connection_retry_on_startup=True)
    with pytest.raises(TimeoutError, match=r"was not ready in 0\.5 s"), start_worker(app, start_timeout=0.5):
        pass


@pytest.mark.parametrize("pool", ["solo", "prefork"])
def test_tasks_that_are_defined_later(app: Umbel, pool: str) -> None:
    with start_worker(app, pool=pool) as worker:
        early = app.send_task("mul", (2, 3))

        @app.task(name="mul")
        def mul(x: int, y: int) -> int:
            return x * y

        worker.reload()
        assert mul.delay(4, 4).get(timeout=20) == 16
        assert early.get(timeout=20) == 6


def test_two_workers_of_one_application_with_their_own_queues(app: Umbel) -> None:
    where = define(app)["where"]
    with (
        start_worker(app, pool="prefork", queues="first") as first,
        start_worker(app, pool="prefork", queues=["second"], hostname="two@%h") as second,
    ):
        assert first.hostname != second.hostname and second.hostname.startswith("two@")
        pids = [where.apply_async(queue=queue).get(timeout=20) for queue in ("first", "second")]
    assert len({os.getpid(), *pids}) == 3


def test_signals_of_this_process_stay_as_they_are(app: Umbel) -> None:
    import faulthandler
    import gc
    import signal

    def handlers() -> list[Any]:
        return [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1, signal.SIGCHLD)]

    faulthandler.unregister(signal.SIGUSR1)
    before = handlers(), gc.get_threshold(), gc.get_freeze_count()
    with start_worker(app, pool="prefork"):
        assert (handlers(), gc.get_threshold(), gc.get_freeze_count()) == before
    assert (handlers(), gc.get_threshold(), gc.get_freeze_count()) == before
    assert not faulthandler.unregister(signal.SIGUSR1)


def test_what_the_test_has_changed_holds_in_executors(app: Umbel, monkeypatch: pytest.MonkeyPatch) -> None:
    answers: list[int] = []
    task = app.make_task(lambda: (os.environ["ANSWER"], answers), name="look")
    monkeypatch.setenv("ANSWER", "42")
    answers.append(42)
    with start_worker(app, pool="prefork"):
        assert task.delay().get(timeout=20) == ["42", [42]]
