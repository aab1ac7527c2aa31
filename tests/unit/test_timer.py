"""The timer of a worker."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Awaitable, Callable

import pytest

from umbel.worker.timer import Timer


def with_timer(body: Callable[[Timer], Awaitable[None]]) -> None:
    async def run() -> None:
        timer = Timer()
        timer.start()
        try:
            await body(timer)
        finally:
            timer.stop()

    asyncio.run(run())


async def await_true(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 5
    while not condition():
        assert time.monotonic() < deadline
        await asyncio.sleep(0.01)


def test_calls_come_in_time_in_another_thread() -> None:
    called: list[tuple[str, float, threading.Thread]] = []

    def note(what: str, at: str = "") -> None:
        called.append((what + at, time.monotonic(), threading.current_thread()))

    async def body(timer: Timer) -> None:
        begun = time.monotonic()
        timer.call_at(time.time() + 0.3, note, ("at",))
        timer.call_after(0.1, note, ("after",), {"at": "!"}, priority=5)
        await await_true(lambda: len(called) == 2)
        assert [what for what, _, _ in called] == ["after!", "at"]
        assert called[0][1] - begun >= 0.1 and called[1][1] - begun >= 0.25
        assert all(thread is not threading.current_thread() for _, _, thread in called)

    with_timer(body)


def test_repeated_calls_go_on_after_errors_until_cancelled(caplog: pytest.LogCaptureFixture) -> None:
    called: list[int] = []

    def fail() -> None:
        called.append(1)
        raise ValueError("no luck")

    async def body(timer: Timer) -> None:
        entry = timer.call_repeatedly(0.01, fail)
        await await_true(lambda: len(called) >= 3)
        entry.cancel()
        entry.cancel()
        last = timer.call_after(0.1, lambda: None)
        assert not last.cancelled
        count = len(called)
        done = threading.Event()
        timer.call_after(0.1, done.set)
        await await_true(done.is_set)
        assert len(called) <= count + 1

    with_timer(body)
    assert "a call of the timer failed" in caplog.text


def test_stop_cancels_all() -> None:
    called: list[int] = []

    async def body(timer: Timer) -> None:
        timer.call_after(0.05, called.append, (1,))
        timer.stop()
        with pytest.raises(RuntimeError, match="must require 'Timer'"):
            timer.call_after(1, called.append, (2,))
        await asyncio.sleep(0.15)  # Nothing is called.
        assert called == []

    with_timer(body)


def test_calls_may_be_asked_for_by_any_thread() -> None:
    done = threading.Event()

    async def body(timer: Timer) -> None:
        await asyncio.to_thread(lambda: timer.call_after(0.01, done.set))
        await await_true(done.is_set)

    with_timer(body)
