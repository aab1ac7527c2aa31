"""Event loops for async tasks in executors that are not async themselves."""

from __future__ import annotations

import asyncio
import contextvars
import threading
from collections.abc import Callable, Coroutine
from typing import Any


class _Loops(threading.local):
    runner: asyncio.Runner | None = None


_loops = _Loops()
_elsewhere: list[Callable[[Coroutine[Any, Any, Any]], Any]] = []


def run_in_loop(coroutine: Coroutine[Any, Any, Any]) -> Any:
    """Run a coroutine to its end in this thread's event loop, which lives until ``close_loop``; in the loop of this
    process where it has one (``use_loop_of``).

    Where a loop runs already (``apply`` inside async code), a thread is started for it.
    """
    if asyncio._get_running_loop() is not None:  # pyright: ignore[reportPrivateUsage] - the public one raises
        return _run_in_thread(coroutine)
    if _elsewhere:
        return _elsewhere[0](coroutine)
    runner = _loops.runner
    if runner is None:
        runner = _loops.runner = asyncio.Runner()
    return runner.run(coroutine, context=contextvars.copy_context())


def use_loop_of(run: Callable[[Coroutine[Any, Any, Any]], Any]) -> None:
    """From now on ``run_in_loop`` of every thread of this process passes coroutines to ``run``, which runs them in a
    loop of its own and waits for the end."""
    _elsewhere[:] = [run]


def _run_in_thread(coroutine: Coroutine[Any, Any, Any]) -> Any:
    from concurrent.futures import ThreadPoolExecutor

    context = contextvars.copy_context()

    def run() -> Any:
        with asyncio.Runner() as runner:
            return runner.run(coroutine, context=context)

    with ThreadPoolExecutor(1) as thread:
        return thread.submit(run).result()


def close_loop() -> None:
    """End this thread's event loop: cancels what is left in it. Idempotent."""
    runner = _loops.runner
    if runner is not None:
        del _loops.runner
        runner.close()
