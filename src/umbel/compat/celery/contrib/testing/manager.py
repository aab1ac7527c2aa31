"""``celery.contrib.testing.manager``: waiting for what tasks do, in integration tests.

What asks workers about their tasks is not here: that is remote control.
"""

from __future__ import annotations

import itertools
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

from umbel import states
from umbel.errors import TimeoutError

if TYPE_CHECKING:
    from umbel.app import Umbel

__all__ = ["Manager", "ManagerMixin", "Sentinel"]

Catch = type[BaseException] | tuple[type[BaseException], ...]


class Sentinel(Exception):
    """What was waited for has not happened."""


class ManagerMixin:
    """Waits. Times are seconds; after the first pause of ``interval_start`` each is ``interval_step`` longer, up to
    ``interval_max``."""

    app: Umbel

    def remark(self, s: str, sep: str = "-") -> None:
        """Tell the reader of the test's output."""
        sys.stdout.write(f"{sep}{s}\n")

    def warn(self, s: str) -> None:
        """Warn the reader of the test's output."""
        self.remark(s, "! ")

    def missing_results(self, r: Iterable[Any]) -> list[str]:
        """The ids of the results that have not come."""
        return [each.id for each in r if not each.ready()]

    def retry_over_time(self, *args: Any, **kwargs: Any) -> Any:
        """``retry_over_time(fun, catch, args, kwargs, errback, max_retries, interval_start, interval_step,
        interval_max)``: call ``fun`` until it raises none of ``catch``; its value.

        ``errback(error, pauses, retries)`` is told of each error. What the call after ``max_retries`` raises (None: no
        such limit) is passed on.
        """
        return _retry(*args, **kwargs)

    def wait_for(
        self,
        fun: Callable[..., Any],
        catch: Catch,
        desc: str = "thing",
        args: Sequence[Any] = (),
        kwargs: Mapping[str, Any] | None = None,
        errback: Callable[..., Any] | None = None,
        max_retries: int | None = 10,
        interval_start: float = 0.1,
        interval_step: float = 0.5,
        interval_max: float = 5.0,
        emit_warning: bool = False,
        **options: Any,
    ) -> Any:
        """The value of ``fun``, which is called until it raises none of ``catch``; see ``retry_over_time``.

        ``emit_warning``: errors are shown, as about ``desc``.
        """

        def on_error(error: BaseException, pauses: Iterator[float], retries: int) -> None:
            if emit_warning:
                self.warn(f"Waiting for {desc}: {error!r}, {retries} retries so far")
            if errback is not None:
                errback(error, pauses, retries)

        return self.retry_over_time(
            fun, catch, args, kwargs, on_error, max_retries, interval_start, interval_step, interval_max, **options
        )

    def ensure_not_for_a_while(
        self,
        fun: Callable[..., Any],
        catch: Catch,
        desc: str = "thing",
        max_retries: int | None = 20,
        interval_start: float = 0.1,
        interval_step: float = 0.02,
        interval_max: float = 1.0,
        emit_warning: bool = False,
        **options: Any,
    ) -> None:
        """See to it that every call of ``fun`` raises one of ``catch``. Raises AssertionError when one does not."""
        timing = {"interval_start": interval_start, "interval_step": interval_step, "interval_max": interval_max}
        try:
            self.wait_for(fun, catch, desc, max_retries=max_retries, emit_warning=emit_warning, **timing, **options)
        except catch:
            return
        raise AssertionError(f"Should not have happened: {desc}")

    def join(self, r: Any, propagate: bool = False, max_retries: int | None = 10, **kwargs: Any) -> Any:
        """The values of a ResultSet, for which ``r.get(**kwargs)`` is called that often.

        Raises AssertionError when some do not come.
        """
        for _ in itertools.count() if max_retries is None else range(max_retries):
            try:
                return r.get(propagate=propagate, **kwargs)
            except TimeoutError:
                self.remark(f"Still waiting for {self.missing_results(r)}", "- ")
        raise AssertionError("Test failed: Missing task results")

    def true_or_raise(self, fun: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        """The value of ``fun``. Raises Sentinel where that is not true."""
        value = fun(*args, **kwargs)
        if not value:
            raise Sentinel
        return value

    @staticmethod
    def is_result_task_in_progress(results: Iterable[Any], **kwargs: Any) -> bool:
        """Whether all have started or succeeded."""
        return all(result.state in (states.STARTED, states.SUCCESS) for result in results)

    def assert_result_tasks_in_progress_or_completed(
        self,
        async_results: Iterable[Any],
        interval: float = 0.5,
        desc: str = "waiting for tasks to be started or completed",
        **policy: Any,
    ) -> Any:
        """Wait until all have started or succeeded. Raises Sentinel."""
        policy.setdefault("desc", desc)
        return self.assert_task_state_from_result(
            self.is_result_task_in_progress, async_results, interval=interval, **policy
        )

    def assert_task_state_from_result(
        self, fun: Callable[..., Any], results: Any, interval: float = 0.5, **policy: Any
    ) -> Any:
        """Wait until ``fun(results, timeout=interval)`` is true; its value. Raises Sentinel."""
        return self.wait_for(partial(self.true_or_raise, fun, results, timeout=interval), (Sentinel,), **policy)

    def assert_task_worker_state(self, fun: Callable[..., Any], ids: Any, interval: float = 0.5, **policy: Any) -> Any:
        """Wait until ``fun(ids, timeout=interval)`` is true; its value. Raises Sentinel."""
        return self.assert_task_state_from_result(fun, ids, interval, **policy)


class Manager(ManagerMixin):
    """Waits for the tasks of ``app``."""

    def __init__(self, app: Umbel, **kwargs: Any) -> None:
        self.app = app


def _retry(
    fun: Callable[..., Any],
    catch: Catch,
    args: Sequence[Any] = (),
    kwargs: Mapping[str, Any] | None = None,
    errback: Callable[..., Any] | None = None,
    max_retries: int | None = None,
    interval_start: float = 2,
    interval_step: float = 2,
    interval_max: float = 30,
) -> Any:
    pauses = (min(interval_start + number * interval_step, interval_max) for number in itertools.count())
    for retries in itertools.count():
        try:
            return fun(*args, **(kwargs or {}))
        except catch as error:
            if max_retries is not None and retries >= max_retries:
                raise
            if errback is not None:
                errback(error, pauses, retries)
            time.sleep(next(pauses))
    return None
