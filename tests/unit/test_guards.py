"""Guards: what reaches into a running task, and that it reaches nothing else."""

from __future__ import annotations

import asyncio
import signal
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from types import FrameType
from typing import Any

import pytest

from umbel.errors import SoftTimeLimitExceeded
from umbel.executors.interrupts import SignalGuard, SoftLimitThread, ThreadGuard, WatchedThreadGuard
from umbel.guarding import Guard, TaskEnded

PLENTY = 10.0


def wait(seconds: float) -> str:
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        time.sleep(0.001)
    return "done"


@pytest.fixture
def watch() -> Iterator[SoftLimitThread]:
    made = SoftLimitThread()
    yield made
    made.close()


def limited(guard: Guard, soft: float | None, function: Callable[[], Any]) -> Any:
    guard.begin(1, soft)
    try:
        return guard.call(function, (), {})
    finally:
        guard.finish()


@pytest.fixture(params=["signal", "thread"])
def guard(request: pytest.FixtureRequest, watch: SoftLimitThread) -> Guard:
    return SignalGuard() if request.param == "signal" else WatchedThreadGuard(watch)


def test_a_soft_limit_is_raised_inside_the_function(guard: Guard) -> None:
    def function() -> str:
        try:
            return wait(PLENTY)
        except SoftTimeLimitExceeded:
            return "cleaned up"

    assert limited(guard, 0.05, function) == "cleaned up"
    assert limited(guard, None, lambda: wait(0.1)) == "done"


def test_a_limit_that_is_over_as_the_function_returns_is_raised_nowhere_else(guard: Guard) -> None:
    """The limit hits at every moment around the end; whatever escapes ends this loop."""
    late = 0
    for round_ in range(1500):
        try:
            assert limited(guard, 0.001, lambda round_=round_: wait(0.0009 + round_ % 10 * 2e-5)) == "done"
        except SoftTimeLimitExceeded:
            late += 1
        for _ in range(20):
            assert limited(guard, None, lambda: 1) == 1
    assert late


def test_handler_and_timer_of_the_user_are_put_back() -> None:
    rung: list[int] = []

    def own(number: int, frame: FrameType | None) -> None:
        rung.append(number)

    before = signal.signal(signal.SIGALRM, own)
    try:
        signal.setitimer(signal.ITIMER_REAL, 0.3)
        with pytest.raises(SoftTimeLimitExceeded):
            limited(SignalGuard(), 0.05, lambda: wait(PLENTY))
        assert signal.getsignal(signal.SIGALRM) is own
        assert not rung
        wait(0.5)
        assert rung == [signal.SIGALRM]
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def test_a_handler_that_the_task_has_set_stays() -> None:
    def own(number: int, frame: FrameType | None) -> None:
        raise AssertionError

    before = signal.getsignal(signal.SIGALRM)
    try:
        limited(SignalGuard(), 5.0, lambda: signal.signal(signal.SIGALRM, own))
        assert signal.getsignal(signal.SIGALRM) is own
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def in_thread(guard: Guard, function: Callable[[], Any]) -> Callable[[], Any]:
    """Runs it as task 1 of a thread; returns what waits for the outcome."""
    guard.begin(1, None)
    thread = ThreadPoolExecutor(1)
    future = thread.submit(guard.call, function, (), {})

    def outcome() -> Any:
        try:
            return future.result(PLENTY)
        finally:
            thread.shutdown()

    return outcome


def test_the_task_that_is_to_end_ends_whatever_it_makes_of_it() -> None:
    def lets_through() -> None:
        wait(PLENTY)

    def swallows() -> str:
        try:
            return wait(PLENTY)
        except BaseException:
            return "it was nothing"

    def fails() -> None:
        try:
            wait(PLENTY)
        finally:
            raise ValueError

    for function in (lets_through, swallows, fails):
        guard, begun = ThreadGuard(), threading.Event()

        def run(function: Callable[[], Any] = function, begun: threading.Event = begun) -> Any:
            begun.set()
            return function()

        outcome = in_thread(guard, run)
        assert begun.wait(PLENTY)
        guard.end(2)
        time.sleep(0.01)  # Nothing happens.
        guard.end(1)
        with pytest.raises(TaskEnded):
            outcome()


def test_a_task_that_is_to_end_before_it_begins_does_not_begin() -> None:
    guard = ThreadGuard()
    guard.begin(1, None)
    guard.end(1)
    with pytest.raises(TaskEnded):
        guard.call(pytest.fail, ("it began",), {})
    guard.begin(2, None)
    guard.end(1)
    assert guard.call(wait, (0.01,), {}) == "done"


def test_a_task_that_has_ended_is_not_ended_again() -> None:
    guard = ThreadGuard()
    for number in range(1, 2000):
        guard.begin(number, None)
        ender = threading.Thread(target=guard.end, args=(number,)) if number % 20 == 0 else None
        if ender is not None:
            ender.start()
        try:
            assert guard.call(lambda: 1, (), {}) == 1
        except TaskEnded:
            assert ender is not None
        guard.finish()
        if ender is not None:
            ender.join()
        wait(0)


def test_a_coroutine_sees_its_soft_limit_and_its_end() -> None:
    async def clean_up() -> str:
        try:
            await asyncio.sleep(PLENTY)
        except SoftTimeLimitExceeded:
            await asyncio.sleep(0.001)
            return "cleaned up"
        return "done"

    async def of_a_group() -> str:
        try:
            async with asyncio.timeout(PLENTY):
                await asyncio.gather(asyncio.sleep(PLENTY), asyncio.sleep(PLENTY))
        except SoftTimeLimitExceeded:
            return "cleaned up"
        return "done"

    async def swallow() -> str:
        try:
            await asyncio.sleep(PLENTY)
        except asyncio.CancelledError:
            return "it was nothing"
        return "done"

    async def main() -> None:
        loop, guard = asyncio.get_running_loop(), ThreadGuard()
        for function in (clean_up, of_a_group):
            guard.begin(1, 0.02)
            assert await guard.limited(function()) == "cleaned up"
        task = asyncio.current_task()
        assert task is not None
        assert task.cancelling() == 0
        for function in (clean_up, swallow):
            guard.begin(2, None)
            loop.call_later(0.02, guard.end, 2)
            with pytest.raises(TaskEnded):
                await asyncio.create_task(guard.limited(function()))
        for round_ in range(200):
            guard.begin(3, 0.002)
            try:
                await guard.limited(asyncio.sleep(0.0015 + round_ % 10 * 1e-4))
            except SoftTimeLimitExceeded:
                pass
            guard.finish()
            await asyncio.sleep(0)
        await asyncio.sleep(0.01)  # Nothing comes late.

    asyncio.run(main())


def test_the_watching_thread_forgets_tasks_that_have_ended(watch: SoftLimitThread) -> None:
    guard = WatchedThreadGuard(watch)
    for number in range(1, 1000):
        guard.begin(number, 3600.0)
        guard.finish()
    assert len(watch._deadlines) == 1  # pyright: ignore[reportPrivateUsage]


def test_what_is_raised_while_a_function_ends_is_taken_back() -> None:
    guard, ending, held = ThreadGuard(), threading.Event(), threading.Event()

    def function() -> str:
        ending.set()
        assert held.wait(PLENTY)
        return "done"

    def lane() -> tuple[str, str]:
        guard.begin(1, None)
        return guard.call(function, (), {}), wait(0.2)

    with ThreadPoolExecutor(1) as thread:
        future = thread.submit(lane)
        assert ending.wait(PLENTY)
        with guard._lock:  # pyright: ignore[reportPrivateUsage] - as on_soft_limit holds it
            held.set()
            time.sleep(0.1)  # The function ends meanwhile, and its lane waits for the lock.
            guard._raise(SoftTimeLimitExceeded)  # pyright: ignore[reportPrivateUsage]
        assert future.result(PLENTY) == ("done", "done")


def test_a_signal_that_comes_after_the_function_is_ignored() -> None:
    guard = SignalGuard()
    assert limited(guard, 5.0, lambda: "done") == "done"
    guard._on_alarm(signal.SIGALRM, None)  # pyright: ignore[reportPrivateUsage]
