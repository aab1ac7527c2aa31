"""What running a task needs to know of it, found out once: its function, inside of the application's middlewares, and
the handlers that it overrides."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any, cast

from msgspec import Struct

from umbel.task import Task
from umbel.validation import validated


class Plan(Struct):
    """What is known of a task before any call: its function, and the handlers that it overrides."""

    call: Callable[..., Any]
    is_coroutine: bool
    before_start: Callable[..., None] | None
    on_success: Callable[..., None] | None
    on_failure: Callable[..., None] | None
    on_retry: Callable[..., None] | None
    after_return: Callable[..., None] | None


def plan_of(task: Task[..., Any]) -> Plan:
    """The plan of a task, made once; setting an attribute of the task discards it."""
    plan = task.__dict__.get("_plan")
    return plan if plan is not None else make_plan(task)


def _raiser(error: Exception) -> Callable[..., Any]:
    """Stands for the function of a task that cannot be called as it is set up: each call fails with the reason."""

    def call(*args: Any, **kwargs: Any) -> Any:
        raise error.with_traceback(None)

    return call


def make_plan(task: Task[..., Any]) -> Plan:
    """Find out about a task, and remember it on the task."""

    def overridden(name: str) -> Any:
        own = name in task.__dict__ or getattr(type(task), name) is not getattr(Task, name)
        return getattr(task, name) if own else None

    before_start = overridden("before_start")
    calls_itself = type(task).__call__ is not Task.__call__  # pyright: ignore[reportUnknownMemberType]
    try:
        call: Callable[..., Any] = cast("Any", task).__call__ if calls_itself else validated(task)
        if len(task.app.middleware):
            call, before_start = task.app.middleware.around(task, call, before_start)
    except Exception as error:
        call = _raiser(error)
    plan = task.__dict__["_plan"] = Plan(
        call=call,
        is_coroutine=inspect.iscoroutinefunction(task.run),
        before_start=before_start,
        on_success=overridden("on_success"),
        on_failure=overridden("on_failure"),
        on_retry=overridden("on_retry"),
        after_return=overridden("after_return"),
    )
    return plan
