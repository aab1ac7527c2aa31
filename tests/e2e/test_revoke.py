"""Revoked tasks are not run: by no worker, whenever it starts, whether or not it hears of it at once (pain 16)."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from click.testing import CliRunner

from umbel.cli import umbel
from umbel.control import command_note, pidbox, revocations_of
from umbel.errors import TaskRevokedError
from umbel.message import new_id
from workers import Fleet, fleet, wait_for

TIMEOUT = 20
SYSTEMS = ["sqlite", "redis", "postgresql", "rabbitmq"]
DEAF = ("UMBEL_WORKER_ENABLE_REMOTE_CONTROL", "0")


@pytest.fixture(params=SYSTEMS)
def system(request: pytest.FixtureRequest) -> str:
    return request.param


def one_system(name: str) -> Callable[..., Any]:
    return pytest.mark.parametrize("system", [name])


def assert_revoked(result: Any) -> None:
    with pytest.raises(TaskRevokedError, match="revoked"):
        result.get(timeout=TIMEOUT)
    assert result.state == "REVOKED"


# -- before a worker knows of the task --


def test_pain_16_a_revoke_is_heeded_by_workers_that_start_later(workers: Fleet, tasks: ModuleType) -> None:
    first, revoked, last = [tasks.record.delay() for _ in range(3)]
    revoked.revoke()
    worker = workers.start("-c", "1")
    assert first.get(timeout=TIMEOUT) == first.id
    assert last.get(timeout=TIMEOUT) == last.id
    assert_revoked(revoked)
    assert set(workers.ledger.begun()) == {first.id, last.id}
    wait_for(lambda: f"task revoked task=apps.ledger.record id={revoked.id}" in worker.output())
    wait_for(lambda: tasks.app.broker.size("celery").ready == 0)
    worker.stop()

    again = tasks.record.apply_async(task_id=revoked.id)
    workers.start("-c", "1")
    other = tasks.record.delay()
    assert other.get(timeout=TIMEOUT) == other.id
    assert again.state == "REVOKED"
    assert again.id not in workers.ledger.begun()


def test_a_delayed_task_is_refused_when_it_is_due(system: str, workers: Fleet, tasks: ModuleType) -> None:
    workers.start("-c", "1")
    delayed = tasks.record.apply_async(countdown=1.5)
    parallel = tasks.record.apply_async(countdown=1.6)
    delayed.revoke()
    if system != "rabbitmq":
        assert delayed.state == "REVOKED", "who waits is told at once"
    assert parallel.get(timeout=TIMEOUT) == parallel.id
    assert_revoked(delayed)
    assert set(workers.ledger.begun()) == {parallel.id}


# -- while a worker holds it --


@pytest.mark.parametrize("hearing", [True, False], ids=["broadcast", "without"])
def test_a_task_queued_behind_others_in_the_worker_is_refused(workers: Fleet, tasks: ModuleType, hearing: bool) -> None:
    workers.start("-c", "1", "--prefetch-multiplier", "10", environment={} if hearing else dict([DEAF]))
    running = tasks.record.delay(3.0)
    wait_for(lambda: running.id in workers.ledger.begun())
    first, revoked, last = [tasks.record.delay() for _ in range(3)]
    wait_for(lambda: tasks.app.broker.size("celery").ready == 0)
    revoked.revoke()
    assert_revoked(revoked)
    assert running.id in workers.ledger.running(), "it was told before its turn came"
    for result in (running, first, last):
        assert result.get(timeout=TIMEOUT) == result.id
    assert revoked.id not in workers.ledger.begun()


def test_a_task_that_runs_is_left_alone(workers: Fleet, tasks: ModuleType) -> None:
    worker = workers.start("-c", "1")
    running = tasks.record.delay(2.0)
    wait_for(lambda: running.id in workers.ledger.begun())
    running.revoke()
    assert running.get(timeout=TIMEOUT) == running.id
    assert workers.ledger.ended()[running.id] == 1
    assert "revoked" not in worker.output()


def test_the_retry_of_a_revoked_task_is_not_run(workers: Fleet, tasks: ModuleType, tmp_path: Path) -> None:
    worker = workers.start("-c", "1")
    go = tmp_path / "go"
    result = tasks.retry_when.delay(str(go))
    wait_for(lambda: result.id in workers.ledger.begun())
    result.revoke()
    go.touch()
    assert_revoked(result)
    assert workers.ledger.begun()[result.id] == 1
    assert "task is to be retried" in worker.output()


@one_system("sqlite")
def test_what_follows_a_revoked_task_is_not_run(workers: Fleet, tasks: ModuleType) -> None:
    follower, errback = new_id(), new_id()
    link = tasks.record.s().set(task_id=follower, immutable=True)
    revoked = tasks.record.apply_async(link=link, link_error=tasks.record.si().set(task_id=errback))
    revoked.revoke()
    workers.start("-c", "1")
    assert tasks.record.delay().get(timeout=TIMEOUT)
    assert_revoked(revoked)
    assert not {follower, errback} & set(workers.ledger.begun())
    assert tasks.app.broker.size("celery").ready == 0


# -- many, none, and for how long --


def test_many_ids_and_unknown_ones(workers: Fleet, tasks: ModuleType) -> None:
    sent = [tasks.record.delay() for _ in range(300)]
    revoked = sent[::3]
    tasks.app.control.revoke([result.id for result in revoked] + [new_id() for _ in range(2500)])
    worker = workers.start("-c", "2")
    kept = [result.id for result in sent if result not in revoked]
    wait_for(lambda: set(workers.ledger.ended()) >= set(kept), 60)
    for result in revoked:
        assert_revoked(result)
    assert set(workers.ledger.begun()) == set(kept)
    assert worker.stop() == 0


@one_system("redis")
def test_after_its_time_a_task_is_run_and_nothing_is_left(workers: Fleet, tasks: ModuleType) -> None:
    tasks.app.conf.task_revoke_expires = 1.5
    worker = workers.start("-c", "1")
    ids = [new_id() for _ in range(20)]
    tasks.app.control.revoke(ids)
    refused = tasks.record.apply_async(task_id=ids[0])
    assert_revoked(refused)
    store = revocations_of(tasks.app)
    assert store is not None
    wait_for(lambda: not store.since(0.0)[1])
    refused.forget()
    wait_for(lambda: _runs(tasks, workers, ids[1]), TIMEOUT)
    assert worker.stop() == 0
    import redis

    with redis.Redis.from_url(workers.environment["LEDGER_BROKER"]) as client:
        wait_for(lambda: not client.keys("*revocations*"))


def _runs(tasks: ModuleType, workers: Fleet, task_id: str) -> bool:
    tasks.record.apply_async(task_id=task_id)
    probe = tasks.record.delay()
    probe.get(timeout=TIMEOUT)
    return task_id in workers.ledger.begun()


# -- who hears of it --


def test_the_broadcast_of_a_celery_client_is_noted_for_workers_that_start_later(
    workers: Fleet, tasks: ModuleType
) -> None:
    app = tasks.app
    first = workers.start("-c", "1", "-n", "w1@test", "--loglevel", "debug")
    wait_for(lambda: "remote control is heard" in first.output())
    revoked, other = new_id(), new_id()
    store = revocations_of(app)
    assert store is not None

    def noted() -> set[str]:
        return {task_id for each in store.since(0.0)[1] for task_id in each.revocation.task_ids}

    arguments = {"terminate": False, "signal": "SIGTERM"}
    app.broker.broadcast(pidbox(app), command_note("revoke", {"task_id": [revoked], **arguments}))
    app.broker.broadcast(pidbox(app), command_note("revoke", {"task_id": other, **arguments}, ["w2@test"]))
    app.broker.broadcast(pidbox(app), command_note("revoke", {"task_id": 7}))
    app.broker.broadcast(pidbox(app), command_note("no_such_command", {}))
    wait_for(lambda: revoked in noted(), what="the worker notes what it hears")
    wait_for(lambda: "a remote control command failed" in first.output())
    assert first.stop() == 0
    refused, free = tasks.record.apply_async(task_id=revoked), tasks.record.apply_async(task_id=other)
    workers.start("-c", "1", "-n", "w1@test")
    assert free.get(timeout=TIMEOUT) == other
    assert_revoked(refused)


@one_system("redis")
def test_destination_names_the_workers_that_heed_it(workers: Fleet, tasks: ModuleType) -> None:
    task_id = new_id()
    tasks.app.control.revoke(task_id, destination=["w1@test"])
    first = workers.start("-c", "1", "-n", "w1@test")
    refused = tasks.record.apply_async(task_id=task_id)
    assert_revoked(refused)
    first.stop()
    refused.forget()
    workers.start("-c", "1", "-n", "w2@test")
    assert tasks.record.apply_async(task_id=task_id).get(timeout=TIMEOUT) == task_id


@one_system("rabbitmq")
def test_without_a_store_only_those_that_run_now_hear_of_it(
    workers: Fleet, tasks: ModuleType, caplog: pytest.LogCaptureFixture
) -> None:
    url = "rpc://"
    tasks.app.conf.result_backend = url
    tasks.app.close()
    worker = workers.start("-c", "1", "--loglevel", "debug", environment={"LEDGER_BACKEND": url})
    wait_for(lambda: "remote control is heard" in worker.output())
    task_id = new_id()
    tasks.app.control.revoke(task_id)
    wait_for(lambda: "remote control command" in worker.output())
    assert "only workers that run now hear of this one" in caplog.text
    assert_revoked(tasks.record.apply_async(task_id=task_id))
    assert not workers.ledger.begun()


@one_system("sqlite")
def test_the_command_line_revokes(workers: Fleet, tasks: ModuleType) -> None:
    kept, *sent = [tasks.record.delay() for _ in range(3)]
    run = CliRunner().invoke(umbel, ["-A", "apps.ledger", "revoke", *[result.id for result in sent]])
    assert run.exit_code == 0, run.output
    assert run.output == "2 tasks revoked\n"
    workers.start("-c", "1")
    assert kept.get(timeout=TIMEOUT)
    for result in sent:
        assert_revoked(result)
    wrong = CliRunner().invoke(umbel, ["-A", "apps.ledger", "revoke", sent[0].id, "-t", "-s", "SIGNOTHING"])
    assert wrong.exit_code != 0
    assert "no signal" in str(wrong.exception)


@one_system("sqlite")
def test_nothing_begins_before_the_revocations_could_be_read(workers: Fleet, tasks: ModuleType, tmp_path: Path) -> None:
    """A store that does not answer keeps tasks waiting, rather than that a revoked one runs."""
    import sqlite3

    kept, revoked = tasks.record.delay(), tasks.record.delay()
    tasks.app.control.revoke(revoked.id)
    with sqlite3.connect(tmp_path / "umbel.db") as connection:
        connection.execute("ALTER TABLE umbel_revocations RENAME COLUMN record TO hidden")
    worker = workers.start("-c", "1")
    wait_for(lambda: "no task begins before they are" in worker.output())
    assert not workers.ledger.begun()
    with sqlite3.connect(tmp_path / "umbel.db") as connection:
        connection.execute("ALTER TABLE umbel_revocations RENAME COLUMN hidden TO record")
    assert kept.get(timeout=TIMEOUT) == kept.id
    assert_revoked(revoked)
    assert set(workers.ledger.begun()) == {kept.id}


# -- signals --


@pytest.fixture
def signals(urls: tuple[str, str], tmp_path: Path) -> Iterator[tuple[Fleet, Path]]:
    log = tmp_path / "signals"
    with fleet(tmp_path, *urls, SIGNALS_FILE=str(log), SIGNALS_WITHOUT="setup_logging") as made:
        yield made, log


@one_system("redis")
def test_receivers_of_task_revoked_are_told_in_the_worker(signals: tuple[Fleet, Path]) -> None:
    from umbel import Umbel

    workers, log = signals
    with Umbel("x", broker=workers.environment["LEDGER_BROKER"], set_as_current=False) as app:
        task_id = new_id()
        app.control.revoke(task_id)
        worker = workers.start("-c", "1", app="apps.listening")
        app.send_task("apps.listening.add", (1, 2), task_id=task_id)

        def told() -> list[dict[str, Any]]:
            lines = [json.loads(line) for line in log.read_text().splitlines()]
            return [line for line in lines if line["signal"] == "task_revoked"]

        wait_for(told)
        (line,) = told()
        assert line["id"] == task_id
        assert line["pid"] == worker.process.pid
        assert line["sender"] == "apps.listening.add"
        assert line["expired"] is False
        assert line["arguments"] == ["expired", "request", "signum", "terminated"]


@one_system("redis")
def test_receivers_are_told_when_a_task_was_ended(signals: tuple[Fleet, Path]) -> None:
    from umbel import Umbel

    workers, log = signals
    with Umbel("x", broker=workers.environment["LEDGER_BROKER"], set_as_current=False) as app:
        workers.start("-c", "1", app="apps.listening")
        task = app.send_task("apps.listening.rest", (60,))

        def lines(name: str) -> list[dict[str, Any]]:
            found = [json.loads(line) for line in log.read_text().splitlines()] if log.exists() else []
            return [line for line in found if line["signal"] == name]

        wait_for(lambda: lines("task_prerun"), TIMEOUT)
        app.control.terminate(task.id, signal="SIGKILL")
        wait_for(lambda: lines("task_revoked"), TIMEOUT)
        (line,) = lines("task_revoked")
        assert (line["id"], line["terminated"], line["signum"], line["expired"]) == (task.id, True, 9, False)
        assert not lines("task_failure")


# -- by stamp --


def test_tasks_are_revoked_by_their_stamps_wherever_they_are(system: str, workers: Fleet, tasks: ModuleType) -> None:
    """Queued, delayed, held by a worker, running, and sent only later."""

    def stamped(tenant: str, *args: Any, **options: Any) -> Any:
        return tasks.record.s(*args).stamp(tenant=tenant).apply_async(**options)

    workers.start("-c", "1", "--prefetch-multiplier", "10")
    running = stamped("acme", 60.0)
    wait_for(lambda: running.id in workers.ledger.begun())
    held, other = stamped("acme"), stamped("initech")
    wait_for(lambda: tasks.app.broker.size("celery").ready == 0)
    delayed = stamped("acme", countdown=1.0)
    tasks.app.control.revoke_by_stamped_headers({"tenant": ["acme", "globex"]}, terminate=True)
    later = stamped("globex")
    with pytest.raises(TaskRevokedError, match="terminated"):
        running.get(timeout=TIMEOUT)
    for result in (held, delayed, later):
        assert_revoked(result)
    assert other.get(timeout=TIMEOUT) == other.id
    assert set(workers.ledger.begun()) == {running.id, other.id}


@one_system("redis")
def test_a_revocation_by_stamp_is_heeded_by_workers_that_start_later(workers: Fleet, tasks: ModuleType) -> None:
    revoked = tasks.record.s().stamp(tenant="acme").apply_async()
    other = tasks.record.s().stamp(tenant="initech").apply_async()
    done = CliRunner().invoke(umbel, ["-A", "apps.ledger", "revoke", "--stamp", "tenant=acme"], catch_exceptions=False)
    assert (done.exit_code, done.output) == (0, "1 stamp revoked\n")
    workers.start("-c", "1", environment=dict([DEAF]))
    assert other.get(timeout=TIMEOUT) == other.id
    assert_revoked(revoked)
    assert set(workers.ledger.begun()) == {other.id}
