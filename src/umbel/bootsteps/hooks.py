"""The thread in which plain hooks of steps run, so that none of them blocks the worker's event loop."""

from __future__ import annotations

import asyncio
import contextlib
import inspect
import queue
import threading
from collections.abc import Callable
from typing import Any

from umbel.errors import UmbelError


class HookTimeout(UmbelError):
    """A hook has not come to an end in its time."""


PATIENCE = 1.0
"""Seconds that a worker that stops waits for the end of a thread of hooks."""


class HookThread:
    """Calls functions one after the other in one daemon thread, which is started on first use.

    A function that does not come to an end within its time is left behind in its thread; the next one gets a new one.
    """

    def __init__(self, name: str) -> None:
        self.name = name
        self._calls: queue.SimpleQueue[Callable[[], None] | None] | None = None
        self._thread: threading.Thread | None = None

    async def call(self, function: Callable[..., Any], *args: Any, timeout: float | None = None) -> Any:
        """The answer of ``function(*args)``; that of an ``async def`` one, or what is awaitable, by awaiting it here.

        Raises HookTimeout after ``timeout`` seconds, and what the function raises.
        """
        scope = asyncio.timeout(timeout)
        try:
            async with scope:
                if inspect.iscoroutinefunction(function):
                    return await function(*args)
                answer = await self._in_thread(function, args)
                return await answer if inspect.isawaitable(answer) else answer
        except TimeoutError as error:
            if scope.expired():
                raise HookTimeout(f"it took over {timeout} s and was left behind") from error
            raise

    async def _in_thread(self, function: Callable[..., Any], args: tuple[Any, ...]) -> Any:
        loop = asyncio.get_running_loop()
        future: asyncio.Future[Any] = loop.create_future()

        def call() -> None:
            try:
                answer, error = function(*args), None
            except BaseException as raised:
                answer, error = None, raised
            with contextlib.suppress(RuntimeError):  # the loop has ended, and nobody waits any more
                loop.call_soon_threadsafe(_settle, future, answer, error)

        self.post(call)
        try:
            return await future
        except asyncio.CancelledError:
            self.close()
            raise

    def post(self, call: Callable[[], None]) -> None:
        """Have it called in the thread, without waiting for it."""
        if self._calls is None:
            self._calls = queue.SimpleQueue()
            self._thread = threading.Thread(target=_run, args=(self._calls,), name=self.name, daemon=True)
            self._thread.start()
        self._calls.put(call)

    def close(self, timeout: float = 0.0) -> None:
        """Let the thread end after what it does, and wait up to ``timeout`` seconds for that; it is started anew when
        there is more to do."""
        if self._calls is not None:
            self._calls.put(None)
            self._calls = None
        thread, self._thread = self._thread, None
        if timeout and thread is not None and thread is not threading.current_thread():
            thread.join(timeout)


def _run(calls: queue.SimpleQueue[Callable[[], None] | None]) -> None:
    while (call := calls.get()) is not None:
        call()


def _settle(future: asyncio.Future[Any], answer: Any, error: BaseException | None) -> None:
    if future.cancelled():
        return
    if error is None:
        future.set_result(answer)
    elif isinstance(error, Exception) and not isinstance(error, StopIteration):
        future.set_exception(error)
    else:
        future.set_exception(RuntimeError(f"{type(error).__name__}: {error}"))
