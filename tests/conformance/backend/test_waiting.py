"""Waiting for results: before, while and after they come, in threads, by subscription, in time."""

from __future__ import annotations

import threading
import time
from typing import Any

import pytest

from conformance.backend.conftest import Connect, Sender
from conformance.drivers import Driver
from conformance.waiting import Running, assert_prompt
from umbel.backends.base import Backend, Features, Meta
from umbel.message import new_id
from workers import wait_for


def ignore(meta: Meta) -> None:
    """A callback that is not interested."""


def test_waiting_for_nothing(backend: Backend) -> None:
    assert backend.wait([], 5.0, ignore)


def test_ready_before(sender: Sender) -> None:
    ids = sender.new(3)
    for task in ids:
        sender.store(task, "SUCCESS", task)
    for task in ids:
        assert sender.read(task).result == task
    seen: list[Meta] = []
    assert sender.backend.wait(ids, 5.0, seen.append)
    assert sorted(meta.task_id for meta in seen) == sorted(ids)


def test_ready_before_without_time(sender: Sender) -> None:
    (task,) = sender.new(1)
    sender.store(task)
    sender.read(task)
    seen: list[Meta] = []
    assert sender.backend.wait([task], 0.0, seen.append)
    assert seen[-1].status == "SUCCESS"


@pytest.mark.calm
@pytest.mark.parametrize("state", ["SUCCESS", "FAILURE", "REVOKED"])
def test_ready_while_waiting(sender: Sender, features: Features, state: str) -> None:
    first, task = sender.new(2)
    seen: list[Meta] = []
    waiting = Running(lambda: sender.backend.wait([first, task], 10.0, seen.append))
    sender.store(first, "SUCCESS", "go")
    wait_for(lambda: seen)
    stored = time.time()
    sender.store(task, state, {"exc_type": "E"})
    assert waiting.result()
    assert waiting.ended - stored <= (0.2 if features.push else 1.5)
    assert [meta.task_id for meta in seen] == [first, task]
    assert seen[-1].status == state


def test_stored_by_another_object(sender: Sender, connect: Connect) -> None:
    (task,) = sender.new(1)
    waiting = Running(lambda: sender.read(task, 10.0))
    connect().store([sender.encode(task, "SUCCESS", "from afar")])
    assert waiting.result().result == "from afar"


def test_states_on_the_way_are_told(sender: Sender) -> None:
    (task,) = sender.new(1)
    seen: list[Meta] = []
    waiting = Running(lambda: sender.backend.wait([task], 10.0, seen.append))
    for step in range(3):
        sender.store(task, "PROGRESS", {"step": step})
        wait_for(lambda step=step: seen and seen[-1].result == {"step": step})
    sender.store(task, "SUCCESS", "end")
    assert waiting.result()
    assert seen[-1].result == "end"


def test_retry_is_not_the_end(sender: Sender) -> None:
    (task,) = sender.new(1)
    sender.store(task, "RETRY", {"exc_type": "E"})
    seen: list[Meta] = []
    assert not sender.backend.wait([task], 0.3, seen.append)
    assert [meta.status for meta in seen] == ["RETRY"]


@pytest.mark.parametrize("timeout", [0.0, 0.5])
def test_timeout(sender: Sender, timeout: float) -> None:
    task, ready = sender.new(2)
    sender.store(ready)
    sender.read(ready)

    def once() -> float:
        seen: list[Meta] = []
        before = time.monotonic()
        assert not sender.backend.wait([task, ready], timeout, seen.append)
        waited = time.monotonic() - before
        assert waited >= timeout - 0.05
        assert [meta.task_id for meta in seen] == [ready]
        return waited

    assert_prompt(timeout + 0.6, once)


def test_callback_runs_in_the_waiting_thread(sender: Sender) -> None:
    (task,) = sender.new(1)
    threads: list[int] = []
    sender.store(task)
    assert sender.backend.wait([task], 5.0, lambda _: threads.append(threading.get_ident()))
    assert set(threads) == {threading.get_ident()}


def test_error_of_a_callback_reaches_the_caller(sender: Sender) -> None:
    ids = sender.new(2)

    def fail(meta: Meta) -> None:
        raise LookupError(meta.task_id)

    sender.store(ids[0])
    with pytest.raises(LookupError):
        sender.backend.wait([ids[0]], 5.0, fail)
    sender.store(ids[1], "SUCCESS", "still works")
    assert sender.read(ids[1]).result == "still works"


def test_many_ids(sender: Sender) -> None:
    ids = sender.new(1_000)
    got: dict[str, Any] = {}
    waiting = Running(lambda: sender.backend.wait(ids, 60.0, lambda meta: got.__setitem__(meta.task_id, meta.result)))
    for start in range(0, 1_000, 50):
        sender.backend.store([sender.encode(ids[n], "SUCCESS", n) for n in range(start, start + 50)])
    assert waiting.result(60.0)
    assert got == {id: n for n, id in enumerate(ids)}


def test_several_threads_wait_for_their_own(sender: Sender) -> None:
    def ask(worker: Sender) -> tuple[str, Running[Meta]]:
        (task,) = worker.new(1)
        return task, Running(lambda: worker.read(task, 20.0))

    asked = [ask(sender) for _ in range(12)]
    for task, _ in reversed(asked):
        sender.store(task, "SUCCESS", task)
    for task, waiting in asked:
        assert waiting.result().result == task


def test_several_threads_wait_for_the_same(sender: Sender) -> None:
    (task,) = sender.new(1)
    waiting = [Running(lambda: sender.read(task, 20.0)) for _ in range(5)]
    sender.store(task, "SUCCESS", "shared")
    assert [thread.result().result for thread in waiting] == ["shared"] * 5


def test_each_thread_sends_and_waits(sender: Sender) -> None:
    """Client threads as in a web server: each sends its tasks and waits for them."""
    backend = sender.backend

    def client(number: int) -> list[Any]:
        own = Sender(backend)
        results: list[Any] = []
        for step in range(10):
            (task,) = own.new(1)
            own.store(task, "SUCCESS", [number, step])
            results.append(own.read(task, 20.0).result)
        return results

    threads = [Running(lambda number=number: client(number)) for number in range(8)]
    for number, thread in enumerate(threads):
        assert thread.result(60.0) == [[number, step] for step in range(10)]


@pytest.mark.calm
def test_subscription_is_called_when_ready(sender: Sender, features: Features) -> None:
    (task,) = sender.new(1)
    seen: list[tuple[float, Meta]] = []
    sender.backend.subscribe(task, lambda meta: seen.append((time.time(), meta)))
    sender.store(task, "STARTED", None)
    stored = time.time()
    sender.store(task, "SUCCESS", 7)
    wait_for(lambda: seen)
    moment, meta = seen[0]
    assert (meta.status, meta.result) == ("SUCCESS", 7)
    assert moment - stored <= (0.3 if features.push else 1.5)


def test_subscription_is_called_once(sender: Sender) -> None:
    task, marker = sender.new(2)
    seen: list[Meta] = []
    sender.backend.subscribe(task, seen.append)
    sender.store(task, "FAILURE", {"exc_type": "E"})
    sender.store(task, "SUCCESS", 1)
    sender.store(marker)
    sender.read(marker)
    wait_for(lambda: seen)
    assert len(seen) == 1


def test_subscription_to_what_is_ready(sender: Sender) -> None:
    (task,) = sender.new(1)
    sender.store(task, "SUCCESS", 8)
    sender.read(task)
    seen: list[Meta] = []
    sender.backend.subscribe(task, seen.append)
    assert wait_for(lambda: seen)[0].result == 8


def test_ended_subscription_is_not_called(sender: Sender) -> None:
    task, marker = sender.new(2)
    seen: list[Meta] = []
    marked: list[Meta] = []
    end = sender.backend.subscribe(task, seen.append)
    sender.backend.subscribe(marker, marked.append)
    end()
    end()
    sender.store(task)
    sender.store(marker)
    wait_for(lambda: marked)
    assert seen == []


def test_subscription_comes_from_another_thread(sender: Sender) -> None:
    (task,) = sender.new(1)
    threads: list[int] = []
    sender.backend.subscribe(task, lambda _: threads.append(threading.get_ident()))
    sender.store(task)
    assert wait_for(lambda: threads) != [threading.get_ident()]


def test_failing_subscriber_harms_no_other(sender: Sender) -> None:
    first, second = sender.new(2)
    seen: list[Meta] = []

    def fail(meta: Meta) -> None:
        raise LookupError(meta.task_id)

    sender.backend.subscribe(first, fail)
    sender.backend.subscribe(second, seen.append)
    sender.store(first)
    sender.store(second)
    wait_for(lambda: seen)


def test_many_subscriptions(sender: Sender) -> None:
    ids = sender.new(500)
    seen: list[Any] = []
    for task in ids:
        sender.backend.subscribe(task, lambda meta: seen.append(meta.result))
    sender.backend.store([sender.encode(task, "SUCCESS", n) for n, task in enumerate(ids)])
    wait_for(lambda: len(seen) == 500, 20.0)
    assert sorted(seen) == list(range(500))


def test_expired_result_is_gone(connect: Connect, driver: Driver) -> None:
    if driver.one_reader:
        pytest.skip("results are handed over, not kept")
    brief, lasting = Sender(connect(expires=1.0)), Sender(connect(expires=0))
    (short,) = brief.new(1)
    (long,) = lasting.new(1)
    brief.store(short)
    lasting.store(long)
    assert set(brief.backend.get([short, long])) == {short, long}

    def gone() -> bool:
        brief.backend.cleanup()
        return short not in brief.backend.get([short])

    wait_for(gone, 5.0)
    if not driver.own_expiry:
        lasting.store(long)
    lasting.backend.cleanup()
    assert long in lasting.backend.get([long])


def test_failures_may_have_their_own_expiry(connect: Connect, driver: Driver) -> None:
    if driver.one_reader:
        pytest.skip("results are handed over, not kept")
    sender = Sender(connect(expires=3600.0, failure_expires=1.0))
    failed, succeeded = sender.new(2)
    sender.store(failed, "FAILURE", {"exc_type": "E"})
    sender.store(succeeded)

    def gone() -> bool:
        sender.backend.cleanup()
        return set(sender.backend.get([failed, succeeded])) == {succeeded}

    wait_for(gone, 5.0)


def test_cleanup_counts_or_has_nothing_to_do(backend: Backend) -> None:
    assert backend.cleanup() >= 0


def test_result_of_unknown_task_is_waited_for(backend: Backend) -> None:
    task = new_id()
    backend.on_publish([task])
    assert not backend.wait([task], 0.2, ignore)
