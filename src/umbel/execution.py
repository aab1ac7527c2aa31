"""Runs one task and says what came of it: the :class:`Outcome`. Used by every executor and by ``apply()``.

Nothing is sent, stored or acknowledged here: an outcome says what is to be, and the settlement does it in one step.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Awaitable, Callable, Coroutine
from functools import partial
from time import perf_counter
from types import CoroutineType
from typing import TYPE_CHECKING, Any, cast

from umbel import followups
from umbel.backends.base import Result
from umbel.brokers.base import Action
from umbel.current import current_request, pop_request, push_request
from umbel.endings import Outcome, ended, expired, returned, unreadable
from umbel.errors import InvalidTaskError, MessageError, MissingExtra, NotRegistered
from umbel.failures import error_text
from umbel.guarding import Guard, TaskEnded
from umbel.limits.unique import free_at_start
from umbel.loops import close_loop, off_the_loop, run_in_loop
from umbel.message import Message, now
from umbel.outcomes import encode_result, result_meta, stores_result
from umbel.plans import Plan, make_plan, plan_of
from umbel.reading import read_call
from umbel.request import Request
from umbel.signals import task_prerun

if TYPE_CHECKING:
    from umbel.app import Umbel
    from umbel.task import Task

__all__ = [
    "Outcome",
    "close_loop",
    "execute",
    "execute_async",
    "execute_message",
    "execute_message_async",
    "read_call",
    "run_in_loop",
]

RunCoroutine = Callable[[Coroutine[Any, Any, Any]], Any]
Call = tuple["Task[..., Any]", Request, Any, Any]


# -- running ---------------------------------------------------------------------------------------


def execute(
    app: Umbel,
    task: Task[..., Any],
    request: Request,
    args: Any,
    kwargs: Any,
    *,
    run_coroutine: RunCoroutine | None = None,
    guard: Guard | None = None,
) -> Outcome:
    """Run ``task`` for ``request``. Raises nothing, whatever the task does, but TaskEnded where ``guard`` ended it.

    ``run_coroutine`` runs the coroutine of an async task to its end; by default in this thread's event loop.
    """
    plan: Plan = task.__dict__.get("_plan") or make_plan(task)
    request.owner_task = task
    request.args = args
    request.kwargs = kwargs
    request.enclosing = current_request()
    token = push_request(request)
    started = perf_counter()
    try:
        if task_prerun.receivers or task.track_started or plan.before_start is not None:
            _begin(app, task, plan, request)
        value = (
            plan.call(*args, **kwargs) if guard is None or plan.is_coroutine else guard.call(plan.call, args, kwargs)
        )
        if plan.is_coroutine or type(value) is CoroutineType:
            coroutine = cast("Coroutine[Any, Any, Any]", value)
            value = (run_coroutine or run_in_loop)(coroutine if guard is None else guard.limited(coroutine))
        return returned(app, task, plan, request, value, perf_counter() - started)
    except TaskEnded:
        raise
    except BaseException as error:
        return ended(app, task, plan, request, error, perf_counter() - started)
    finally:
        pop_request(token)


async def execute_async(
    app: Umbel, task: Task[..., Any], request: Request, args: Any, kwargs: Any, *, guard: Guard | None = None
) -> Outcome:
    """As ``execute``, awaiting async tasks. Raises CancelledError only when the caller cancels it."""
    plan = plan_of(task)
    request.owner_task = task
    request.args = args
    request.kwargs = kwargs
    request.enclosing = current_request()
    token = push_request(request)
    started = perf_counter()
    try:
        if task_prerun.receivers or task.track_started or plan.before_start is not None:
            _begin(app, task, plan, request)
        value = plan.call(*args, **kwargs)
        if plan.is_coroutine or type(value) is CoroutineType:
            coroutine = cast("Coroutine[Any, Any, Any]", value)
            value = await (coroutine if guard is None else guard.awaitable(coroutine))
        runtime = perf_counter() - started
        if app.middleware.apublishing is None:
            return returned(app, task, plan, request, value, runtime)
        return await _off_the_loop(partial(returned, app, task, plan, request, value, runtime))
    except TaskEnded:
        raise
    except BaseException as error:
        current = asyncio.current_task()
        if isinstance(error, asyncio.CancelledError) and current is not None and current.cancelling():
            raise
        return await _failed(app, task, plan, request, error, perf_counter() - started)
    finally:
        pop_request(token)


async def _failed(
    app: Umbel, task: Task[..., Any], plan: Plan, request: Request, error: BaseException, runtime: float
) -> Outcome:
    """The outcome of a task that raised, told by the coroutine that caught it: frames of a traceback are cleared, which
    must not happen to one that waits here."""
    if app.middleware.apublishing is None:
        return ended(app, task, plan, request, error, runtime)
    if error.__traceback__ is not None:
        error.__traceback__ = error.__traceback__.tb_next
    return await _off_the_loop(partial(ended, app, task, plan, request, error, runtime))


async def _off_the_loop(end: Callable[[], Outcome]) -> Outcome:
    """The outcome, made in a thread: what follows a task passes middlewares that are awaited in this loop. The task has
    ended, so that its cancellation comes too late."""
    ending = asyncio.ensure_future(off_the_loop(end))
    while not ending.done():
        try:
            await asyncio.wait({ending})
        except asyncio.CancelledError:
            continue
    return ending.result()


def _begin(app: Umbel, task: Task[..., Any], plan: Plan, request: Request) -> None:
    if task_prerun.receivers:
        task_prerun.send(sender=task, task_id=request.id, task=task, args=request.args, kwargs=request.kwargs)
    if task.track_started and not request.is_eager and stores_result(app, task, request):
        meta = result_meta(app, request, "STARTED", {"pid": os.getpid(), "hostname": request.hostname})
        followups.store(request, app.backend, encode_result(app, request, meta))
    if plan.before_start is not None:
        plan.before_start(request.id, request.args, request.kwargs)


# -- messages --------------------------------------------------------------------------------------


def execute_message(
    app: Umbel,
    message: Message,
    *,
    hostname: str = "",
    redelivered: bool = False,
    deliveries: int = 0,
    report: Callable[[Result], None] | None = None,
    run_coroutine: RunCoroutine | None = None,
    guard: Guard | None = None,
) -> Outcome:
    """Decode ``message`` and run its task. Raises nothing but TaskEnded, where ``guard`` ended the task.

    A message that cannot be read ends in the dead letters, with a stored FAILURE where its id is known; one whose task
    is not known here is parked.
    """
    call = _call_of(app, message, hostname, redelivered, deliveries, report)
    if isinstance(call, Outcome):
        return call
    task, request, args, kwargs = call
    if task.unique:
        free_at_start(task, message)
    return execute(app, task, request, args, kwargs, run_coroutine=run_coroutine, guard=guard)


async def execute_message_async(
    app: Umbel,
    message: Message,
    *,
    in_thread: Callable[[Callable[[], Outcome]], Awaitable[Outcome]],
    hostname: str = "",
    redelivered: bool = False,
    deliveries: int = 0,
    report: Callable[[Result], None] | None = None,
    guard: Guard | None = None,
) -> Outcome:
    """As ``execute_message``: async tasks are awaited here, others run by ``in_thread``.

    A task whose asyncio task is cancelled ends as FAILURE. Raises TaskEnded as ``execute_message`` does.
    """
    call = _call_of(app, message, hostname, redelivered, deliveries, report)
    if isinstance(call, Outcome):
        return call
    task, request, args, kwargs = call
    plan = plan_of(task)
    if not plan.is_coroutine:

        def run() -> Outcome:
            if task.unique:
                free_at_start(task, message)
            return execute(app, task, request, args, kwargs, guard=guard)

        return await in_thread(run)
    started = perf_counter()
    try:
        if task.unique:
            await asyncio.to_thread(free_at_start, task, message)
        return await execute_async(app, task, request, args, kwargs, guard=guard)
    except asyncio.CancelledError as error:
        if guard is not None and guard.ended:
            raise TaskEnded from None
        return await _failed(app, task, plan, request, error, perf_counter() - started)


def _call_of(
    app: Umbel,
    message: Message,
    hostname: str,
    redelivered: bool,
    deliveries: int,
    report: Callable[[Result], None] | None,
) -> Call | Outcome:
    """The call that is to be made, or the outcome where there is none."""
    try:
        call = read_call(app, message)
    except NotRegistered as error:
        return Outcome(state="REJECTED", action=Action.PARK, reason=str(error), error_repr=error_text(error))
    except (MessageError, InvalidTaskError, MissingExtra) as error:
        return unreadable(app, message, error)
    task, request = call[0], call[1]
    if message.expires is not None and message.expires < now():
        return expired(app, task, request)
    request.hostname = hostname
    request.redelivered = redelivered
    request.deliveries = deliveries
    request.reporter = report
    return call
