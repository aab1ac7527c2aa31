"""The guard of a lane: what can reach into the function of a task that runs there.

A soft time limit raises ``SoftTimeLimitExceeded`` inside the function, a request of the supervisor ends it by
``TaskEnded``. How a thread, a greenlet or a process is interrupted is said by the guards of ``executors``; coroutines
are interrupted in the same way in every loop, which is said here. Whatever the kind: nothing is raised before the
function is called and nothing after it has ended, neither in its handlers, nor in the lane, nor in the next task.
"""

from __future__ import annotations

import asyncio
import types
from collections.abc import Awaitable, Callable, Coroutine, Generator, Mapping, Sequence
from typing import Any

from umbel.errors import SoftTimeLimitExceeded


class TaskEnded(BaseException):
    """Raised inside a task that is ended by force: by its hard time limit, or by ``revoke(terminate=True)``.

    Not an ``Exception``, so that ``except Exception`` does not stop it; clean up in ``finally``. Coroutines see
    ``asyncio.CancelledError`` instead.
    """


class Guard:
    """Of one lane, for one task after the other: ``begin``, the call, ``finish``.

    ``number``: of the task that the lane runs, 0 for none. ``soft``: its limit in seconds. ``ended``: the supervisor
    has asked for its end. ``always``: the lane announces every task to it, since the supervisor may ask at any time.
    """

    always = True

    def __init__(self) -> None:
        self.number = 0
        self.soft: float | None = None
        self.ended = False
        self._cancel: Callable[[], object] | None = None

    def begin(self, number: int, soft: float | None) -> None:
        """The lane is about to run this task."""
        self.soft, self.ended, self.number = soft, False, number

    def finish(self) -> None:
        """Its outcome is known."""
        self.number = 0

    def call(self, function: Callable[..., Any], args: Sequence[Any], kwargs: Mapping[str, Any]) -> Any:
        """Call the function of a task. Raises what it raises; TaskEnded when it was ended."""
        raise NotImplementedError

    def end(self, number: int) -> None:
        """Raise TaskEnded in task ``number`` if its function runs, or when it is called. Harmless otherwise."""
        raise NotImplementedError

    def awaitable(self, coroutine: Coroutine[Any, Any, Any]) -> Awaitable[Any]:
        """``limited``, or what does the same in a lane whose loop needs less for it."""
        return self.limited(coroutine)

    async def limited(self, coroutine: Coroutine[Any, Any, Any]) -> Any:
        """Await the coroutine of a task, in the loop where it is to run. As ``call``."""
        call = _CoroutineCall(coroutine)
        self._cancel = call.cancel_from_anywhere
        try:
            if self.ended:
                coroutine.close()
                raise TaskEnded
            value = await (coroutine if self.soft is None else call.run_within(self.soft))
        except BaseException:
            if self.ended:
                raise TaskEnded from None
            raise
        finally:
            self._cancel = None
            call.close()
        if self.ended:
            raise TaskEnded
        return value


class _CoroutineCall:
    """A coroutine that can be cancelled, and for which a time limit is a cancellation under another name."""

    def __init__(self, coroutine: Coroutine[Any, Any, Any]) -> None:
        """To be made in the ``asyncio.Task`` in which it will be awaited."""
        self._coroutine = coroutine
        self._loop = asyncio.get_running_loop()
        self._task = asyncio.current_task()
        self._timer: asyncio.TimerHandle | None = None
        self._overdue = False
        self._over = False

    def cancel_from_anywhere(self) -> None:
        self._loop.call_soon_threadsafe(self._cancel)

    def close(self) -> None:
        self._over = True
        if self._timer is not None:
            self._timer.cancel()

    def run_within(self, soft: float) -> Awaitable[Any]:
        self._timer = self._loop.call_later(soft, self._on_soft_limit)
        return self._drive()

    def _on_soft_limit(self) -> None:
        if not self._over:
            self._overdue = True
            self._cancel()

    def _cancel(self) -> None:
        if not self._over and self._task is not None:
            self._task.cancel()

    @types.coroutine
    def _drive(self) -> Generator[Any, Any, Any]:
        """Await the coroutine, and hand it what comes from outside, the cancellation of the limit translated."""
        step: Callable[[Any], Any] = self._coroutine.send
        value: Any = None
        while True:
            try:
                awaited = step(value)
            except StopIteration as end:
                return end.value
            try:
                step, value = self._coroutine.send, (yield awaited)
            except GeneratorExit:
                self._coroutine.close()
                raise
            except BaseException as error:
                step, value = self._coroutine.throw, self._translated(error)

    def _translated(self, error: BaseException) -> BaseException:
        if not (self._overdue and isinstance(error, asyncio.CancelledError) and self._task is not None):
            return error
        self._overdue = False
        self._task.uncancel()
        return SoftTimeLimitExceeded()
