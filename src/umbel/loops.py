"""Ways between code that is async and code that is not: event loops for coroutines in threads that have none, and
threads for plain code that would block a loop."""

from __future__ import annotations

import asyncio
import contextvars
import os
import threading
from collections.abc import Callable, Coroutine
from concurrent.futures import Future, ThreadPoolExecutor
from contextvars import ContextVar
from typing import Any, TypeVar

from umbel.errors import ConfigurationError

T = TypeVar("T")


class _Loops(threading.local):
    runner: asyncio.Runner | None = None
    pid = 0
    """Of the process that has made it."""


_loops = _Loops()
_of_parents: list[asyncio.Runner] = []
"""What a fork has brought here: it watches the parent's files, and closing it would take them from the parent's own."""
_elsewhere: list[Callable[[Coroutine[Any, Any, Any]], Any]] = []
_loop_starts_threads = True


def run_in_loop(coroutine: Coroutine[Any, Any, T]) -> T:
    """Run a coroutine to its end: in the loop from which this code was called ``off_the_loop``, in that of this process
    where it has one (``use_loop_of``), else in this thread's own, which lives until ``close_loop``.

    Where a loop runs in this very thread (``apply`` inside async code), a thread is started for it. Raises
    ConfigurationError where that cannot be.
    """
    if _loop_here() is not None:
        if not _loop_starts_threads:
            coroutine.close()
            raise ConfigurationError(
                "in this pool plain code that a coroutine calls cannot wait for another coroutine: await that, as by "
                "adelay() in place of delay(), or write publish() beside the apublish() of middlewares"
            )
        return _run_in_thread(coroutine)
    excursion = _excursion.get()
    if excursion is not None and _loop_starts_threads and excursion.loop.is_running():
        return excursion.run(coroutine)
    if _elsewhere:
        return _elsewhere[0](coroutine)
    runner = _loops.runner
    if runner is not None and _loops.pid != os.getpid():
        _of_parents.append(runner)
        runner = None
    if runner is None:
        runner = _loops.runner = asyncio.Runner()
        _loops.pid = os.getpid()
    return runner.run(coroutine, context=contextvars.copy_context())


def use_loop_of(run: Callable[[Coroutine[Any, Any, Any]], Any], *, starts_threads: bool = True) -> None:
    """From now on ``run_in_loop`` of every thread of this process passes coroutines to ``run``, which runs them in a
    loop of its own and waits for the end.

    ``starts_threads``: whether that loop's thread may start others; otherwise its default executor does it for it.
    """
    global _loop_starts_threads
    _elsewhere[:] = [run]
    _loop_starts_threads = starts_threads


async def off_the_loop(call: Callable[[], T]) -> T:
    """Call plain code in a thread of its own, with this context. Coroutines that it passes to ``run_in_loop`` come back
    to the loop that runs here, so that nothing in them notices the way round.

    Raises what ``call`` raises. When the caller is cancelled such coroutines are too, and ``call`` is left to end.
    """
    excursion = _Excursion(asyncio.get_running_loop())
    context = contextvars.copy_context()
    context.run(_excursion.set, excursion)
    thread = ThreadPoolExecutor(1, "umbel-off-loop") if _loop_starts_threads else None
    try:
        return await excursion.loop.run_in_executor(thread, context.run, call)
    except asyncio.CancelledError:
        excursion.cancel()
        raise
    finally:
        if thread is not None:
            thread.shutdown(wait=False)


def is_off_the_loop() -> bool:
    """Whether the code that runs here was called by ``off_the_loop``, and is no coroutine of that loop."""
    return _excursion.get() is not None and _loop_here() is None


class _Excursion:
    """Plain code on its way in a thread, and the loop where its caller waits for it."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.loop = loop
        self._running: set[Future[Any]] = set()
        self._cancelled = False

    def run(self, coroutine: Coroutine[Any, Any, T]) -> T:
        """In a thread: run it in the loop, and wait for its end."""
        context = contextvars.copy_context()

        async def run() -> T:
            if self._cancelled:
                coroutine.close()
                raise asyncio.CancelledError
            return await self.loop.create_task(coroutine, context=context)

        future = asyncio.run_coroutine_threadsafe(run(), self.loop)
        self._running.add(future)
        try:
            return future.result()
        finally:
            self._running.discard(future)

    def cancel(self) -> None:
        """In the loop: cancel what runs here for it, now and later."""
        self._cancelled = True
        for future in list(self._running):
            future.cancel()


_excursion: ContextVar[_Excursion | None] = ContextVar("umbel_excursion", default=None)


def _loop_here() -> asyncio.AbstractEventLoop | None:
    return asyncio._get_running_loop()  # pyright: ignore[reportPrivateUsage] - the public one raises


def _run_in_thread(coroutine: Coroutine[Any, Any, Any]) -> Any:
    context = contextvars.copy_context()
    context.run(_excursion.set, None)

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
