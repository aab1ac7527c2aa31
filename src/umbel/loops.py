"""Event loops for async tasks in executors that are not async themselves."""

from __future__ import annotations

import asyncio
import contextvars
import threading
from collections.abc import Coroutine
from typing import Any

_loops = threading.local()


def run_in_loop(coroutine: Coroutine[Any, Any, Any]) -> Any:
    """Run a coroutine to its end in this thread's event loop, which lives until ``close_loop``.

    Where a loop runs already (``apply`` inside async code), a thread is started for it.
    """
    if asyncio._get_running_loop() is not None:  # pyright: ignore[reportPrivateUsage] - the public one raises
        return _run_in_thread(coroutine)
    runner: asyncio.Runner | None = getattr(_loops, "runner", None)
    if runner is None:
        runner = _loops.runner = asyncio.Runner()
    return runner.run(coroutine, context=contextvars.copy_context())


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
    runner: asyncio.Runner | None = getattr(_loops, "runner", None)
    if runner is not None:
        del _loops.runner
        runner.close()
