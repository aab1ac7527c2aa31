"""Runs one task and says what came of it: the :class:`Outcome`. Used by every executor and by ``apply()``.

Nothing is sent, stored or acknowledged here: an outcome says what is to be, and the settlement does it in one step.
"""

from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import Awaitable, Callable, Coroutine
from time import perf_counter
from types import CoroutineType
from typing import TYPE_CHECKING, Any, cast

from msgspec import Struct

from umbel import followups
from umbel.backends.base import Meta, Result
from umbel.brokers.base import Action
from umbel.codecs import loads
from umbel.codecs.exceptions import encode_exception
from umbel.current import current_request, pop_request, push_request
from umbel.errors import (
    Ignore,
    InvalidTaskError,
    MessageError,
    MissingExtra,
    NotRegistered,
    Reject,
    Retry,
    TaskError,
    TaskRevokedError,
)
from umbel.failures import ExceptionInfo, error_text, release, storable, traceback_text
from umbel.loops import close_loop, run_in_loop
from umbel.message import Message, now
from umbel.outcomes import encode_result, result_meta, stores_result
from umbel.plans import Plan, make_plan, plan_of
from umbel.protocol1 import upgrade_protocol1
from umbel.request import Request, read_request
from umbel.retrying import retry_automatically, wants_retry

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

log = logging.getLogger("umbel.task")

RunCoroutine = Callable[[Coroutine[Any, Any, Any]], Any]
Call = tuple["Task[..., Any]", Request, Any, Any]


class Outcome(Struct, kw_only=True):
    """What came of one delivery.

    ``state``: SUCCESS, FAILURE, RETRY, IGNORED, REJECTED or REVOKED. ``value``: the return value or the exception.
    ``traceback``: text. ``result``: encoded, None when nothing is to be stored. ``publish``: messages to send in the
    same settlement. ``action``, ``delay`` (seconds) and ``reason``: how the delivery ends. ``runtime``: seconds.
    ``error_repr``: the exception for logs; ``expected``: its class is among the task's ``throws``.
    """

    state: str
    value: Any = None
    traceback: str | None = None
    result: Result | None = None
    publish: tuple[Message, ...] = ()
    action: Action = Action.ACK
    delay: float = 0.0
    reason: str = ""
    runtime: float = 0.0
    error_repr: str = ""
    expected: bool = False


# -- running ---------------------------------------------------------------------------------------


def execute(
    app: Umbel,
    task: Task[..., Any],
    request: Request,
    args: Any,
    kwargs: Any,
    *,
    run_coroutine: RunCoroutine | None = None,
) -> Outcome:
    """Run ``task`` for ``request``. Never raises, whatever the task does.

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
        _begin(app, task, plan, request)
        value = plan.call(*args, **kwargs)
        if plan.is_coroutine or type(value) is CoroutineType:
            value = (run_coroutine or run_in_loop)(cast("Coroutine[Any, Any, Any]", value))
        return _returned(app, task, plan, request, value, perf_counter() - started)
    except BaseException as error:
        return _ended(app, task, plan, request, error, perf_counter() - started)
    finally:
        pop_request(token)


async def execute_async(app: Umbel, task: Task[..., Any], request: Request, args: Any, kwargs: Any) -> Outcome:
    """As ``execute``, awaiting async tasks. Raises CancelledError only when the caller cancels it."""
    plan = plan_of(task)
    request.owner_task = task
    request.args = args
    request.kwargs = kwargs
    request.enclosing = current_request()
    token = push_request(request)
    started = perf_counter()
    try:
        _begin(app, task, plan, request)
        value = plan.call(*args, **kwargs)
        if plan.is_coroutine or type(value) is CoroutineType:
            value = await cast("Coroutine[Any, Any, Any]", value)
        return _returned(app, task, plan, request, value, perf_counter() - started)
    except BaseException as error:
        current = asyncio.current_task()
        if isinstance(error, asyncio.CancelledError) and current is not None and current.cancelling():
            raise
        return _ended(app, task, plan, request, error, perf_counter() - started)
    finally:
        pop_request(token)


def _begin(app: Umbel, task: Task[..., Any], plan: Plan, request: Request) -> None:
    if task.track_started and not request.is_eager and stores_result(app, task, request):
        meta = result_meta(app, request, "STARTED", {"pid": os.getpid(), "hostname": request.hostname})
        followups.store(request, app.backend, encode_result(app, request, meta))
    if plan.before_start is not None:
        plan.before_start(request.id, request.args, request.kwargs)


def _returned(app: Umbel, task: Task[..., Any], plan: Plan, request: Request, value: Any, runtime: float) -> Outcome:
    """The outcome of a task that returned. Raises what makes it a failure after all."""
    publish = request.publish
    if request.callbacks or request.chain:
        publish = (*publish, *followups.after_success(app, request, value))
    result = None
    if stores_result(app, task, request):
        meta = result_meta(app, request, "SUCCESS", value)
        meta.date_done = app.date_done()
        result = encode_result(app, request, meta)
    if plan.on_success is not None:
        plan.on_success(value, request.id, request.args, request.kwargs)
    if plan.after_return is not None:
        _handle(plan.after_return, "SUCCESS", value, request.id, request.args, request.kwargs, None)
    return Outcome(state="SUCCESS", value=value, result=result, publish=publish, runtime=runtime)


def _ended(
    app: Umbel, task: Task[..., Any], plan: Plan, request: Request, error: BaseException, runtime: float
) -> Outcome:
    """The outcome of a task that raised, also where telling it fails: the result store refuses, a signal comes."""
    try:
        return _raised(app, task, plan, request, error, runtime)
    except BaseException as second:
        log.exception("the failure of a task cannot be stored: task=%s id=%s", task.name, request.id)
        text = traceback_text(second)
        value = storable(second)
        release(second)
        result = None
        if stores_result(app, task, request):
            plain = encode_exception(TaskError(error_text(value)), app.backend.options.serializer)
            meta = result_meta(app, request, "FAILURE", plain)
            meta.traceback = text
            meta.date_done = app.date_done()
            result = encode_result(app, request, meta)
        return Outcome(
            state="FAILURE",
            value=value,
            traceback=text,
            result=result,
            publish=request.publish,
            runtime=runtime,
            error_repr=error_text(value),
        )


def _raised(
    app: Umbel, task: Task[..., Any], plan: Plan, request: Request, error: BaseException, runtime: float
) -> Outcome:
    if isinstance(error, Ignore):
        return Outcome(state="IGNORED", publish=request.publish, runtime=runtime)
    if isinstance(error, Reject):
        action = Action.REQUEUE if error.requeue else Action.DEAD_LETTER
        reason = "" if error.reason is None else str(error.reason)
        release(error)
        return Outcome(state="REJECTED", publish=request.publish, action=action, reason=reason, runtime=runtime)
    retry = error if isinstance(error, Retry) else None
    if retry is None and wants_retry(task, error):
        try:
            retry = retry_automatically(task, error)
            retry.__traceback__ = error.__traceback__
        except BaseException as given_up:
            error = given_up
    if retry is not None:
        return _retried(app, task, plan, request, retry, runtime)
    return _failed(app, task, plan, request, error, runtime)


def _retried(app: Umbel, task: Task[..., Any], plan: Plan, request: Request, retry: Retry, runtime: float) -> Outcome:
    cause: BaseException = retry.exc if retry.exc is not None else retry
    text = traceback_text(retry)
    result = None
    if stores_result(app, task, request):
        meta = result_meta(app, request, "RETRY", encode_exception(cause, app.backend.options.serializer))
        meta.traceback = text
        result = encode_result(app, request, meta)
    if plan.on_retry is not None or plan.after_return is not None:
        info = ExceptionInfo(cause, text)
        call = (request.id, request.args, request.kwargs, info)
        if plan.on_retry is not None:
            _handle(plan.on_retry, cause, *call)
        if plan.after_return is not None:
            _handle(plan.after_return, "RETRY", cause, *call)
    if not request.is_eager:
        release(retry)
        release(cause)
    return Outcome(
        state="RETRY",
        value=retry,
        traceback=text,
        result=result,
        publish=request.publish,
        reason=str(retry),
        runtime=runtime,
        error_repr=error_text(cause),
    )


def _failed(
    app: Umbel, task: Task[..., Any], plan: Plan, request: Request, error: BaseException, runtime: float
) -> Outcome:
    text = traceback_text(error)
    shown = storable(error)
    publish = request.publish
    if request.errbacks:
        publish = (*publish, *followups.after_failure(app, request, shown, text))
    result = None
    stored = stores_result(app, task, request)
    if stored or (task.store_errors_even_if_ignored and not app.backend.features.knows_nothing):
        plain = encode_exception(shown, app.backend.options.serializer)
        meta = result_meta(app, request, "FAILURE", plain)
        meta.traceback = text
        meta.date_done = app.date_done()
        result = encode_result(app, request, meta)
        if request.chain and not request.is_eager:
            followups.fail_rest_of_chain(app, request, plain, text, meta.date_done)
    if plan.on_failure is not None or plan.after_return is not None:
        info = ExceptionInfo(shown, text)
        call = (request.id, request.args, request.kwargs, info)
        if plan.on_failure is not None:
            _handle(plan.on_failure, shown, *call)
        if plan.after_return is not None:
            _handle(plan.after_return, "FAILURE", shown, *call)
    if not request.is_eager:
        release(error)
    refused = task.acks_late and not _acks_failure(task)
    return Outcome(
        state="FAILURE",
        value=shown,
        traceback=text,
        result=result,
        publish=publish,
        action=Action.DEAD_LETTER if refused else Action.ACK,
        reason=error_text(shown) if refused else "",
        runtime=runtime,
        error_repr=error_text(shown),
        expected=isinstance(error, task.throws),
    )


def _acks_failure(task: Task[..., Any]) -> bool:
    own = task.acks_on_failure
    return own if own is not None else task.acks_on_failure_or_timeout is not False


def _handle(handler: Callable[..., None], *args: Any) -> None:
    """Call a handler whose failure must not change the outcome."""
    try:
        handler(*args)
    except Exception:
        log.exception("handler failed: handler=%s", getattr(handler, "__qualname__", handler))


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
) -> Outcome:
    """Decode ``message`` and run its task. Never raises.

    A message that cannot be read ends in the dead letters, with a stored FAILURE where its id is known; one whose task
    is not known here is parked.
    """
    call = _call_of(app, message, hostname, redelivered, deliveries, report)
    if type(call) is Outcome:
        return call
    task, request, args, kwargs = cast("Call", call)
    return execute(app, task, request, args, kwargs, run_coroutine=run_coroutine)


async def execute_message_async(
    app: Umbel,
    message: Message,
    *,
    in_thread: Callable[[Callable[[], Outcome]], Awaitable[Outcome]],
    hostname: str = "",
    redelivered: bool = False,
    deliveries: int = 0,
    report: Callable[[Result], None] | None = None,
) -> Outcome:
    """As ``execute_message``: async tasks are awaited here, others run by ``in_thread``. Never raises.

    A task whose asyncio task is cancelled ends as FAILURE.
    """
    call = _call_of(app, message, hostname, redelivered, deliveries, report)
    if type(call) is Outcome:
        return call
    task, request, args, kwargs = cast("Call", call)
    plan = plan_of(task)
    if not plan.is_coroutine:
        return await in_thread(lambda: execute(app, task, request, args, kwargs))
    started = perf_counter()
    try:
        return await execute_async(app, task, request, args, kwargs)
    except asyncio.CancelledError as error:
        return _ended(app, task, plan, request, error, perf_counter() - started)


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
        return _expired(app, task, request)
    request.hostname = hostname
    request.redelivered = redelivered
    request.deliveries = deliveries
    request.reporter = report
    return call


def read_call(app: Umbel, message: Message) -> Call:
    """The task, request and arguments of a message.

    Raises ContentDisallowed before anything of the body is decoded, DecodeError, InvalidTaskError, NotRegistered.
    """
    accept = app.accept()
    if not message.task:
        message = upgrade_protocol1(message, accept)
    request = read_request(message)
    body = loads(message.body, message.content_type, message.content_encoding, accept, request.compression)
    args, kwargs, embed = _parts(body)
    if embed:
        if any(embed.values()):
            _check_calls(embed)
        request.callbacks = embed.get("callbacks")
        request.errbacks = embed.get("errbacks")
        request.chain = embed.get("chain")
        request.chord = embed.get("chord")
    return app.tasks[message.task], request, args, kwargs


def _parts(body: Any) -> tuple[Any, Any, dict[str, Any]]:
    """args, kwargs and embed of a decoded body; also of a body of protocol 1 under headers of protocol 2."""
    if isinstance(body, (list, tuple)) and len(cast("list[Any]", body)) == 3:
        args, kwargs, embed = cast("list[Any]", body)
    elif isinstance(body, dict) and "args" in body:
        embed = cast("dict[str, Any]", body)
        args, kwargs = embed["args"], embed.get("kwargs")
    else:
        kind = type(cast("Any", body)).__name__
        raise InvalidTaskError(f"the body of a task message must be [args, kwargs, embed], not {kind}")
    args = () if args is None else args
    kwargs = cast("Any", {}) if kwargs is None else kwargs
    embed = cast("Any", {}) if embed is None else embed
    if not isinstance(args, (list, tuple)) or not isinstance(kwargs, dict) or not isinstance(embed, dict):
        raise InvalidTaskError("args must be a list, kwargs and embed objects")
    return cast("Any", args), cast("Any", kwargs), cast("dict[str, Any]", embed)


def _check_calls(embed: dict[str, Any]) -> None:
    """Refuse, before the task runs, what could not be called after it. Raises InvalidTaskError.

    Of error callbacks only that they are a list: one that cannot be called is logged, and the others are.
    """
    for name in ("callbacks", "errbacks", "chain", "chord"):
        found = embed.get(name)
        if found is None:
            continue
        calls = [found] if name == "chord" else found
        well = isinstance(calls, (list, tuple)) and (name == "errbacks" or all(map(_is_call, cast("list[Any]", calls))))
        if not well:
            raise InvalidTaskError(f"{name} of a task message are not calls of tasks")


def _is_call(value: Any) -> bool:
    return isinstance(value, dict) and isinstance(cast("dict[str, Any]", value).get("task"), str)


def _expired(app: Umbel, task: Task[..., Any], request: Request) -> Outcome:
    """The outcome of a task whose time ran out while it waited in the worker."""
    error = TaskRevokedError("expired")
    result = None
    if stores_result(app, task, request):
        meta = result_meta(app, request, "REVOKED", encode_exception(error, app.backend.options.serializer))
        meta.date_done = app.date_done()
        result = encode_result(app, request, meta)
    return Outcome(state="REVOKED", value=error, result=result, error_repr=error_text(error))


def unreadable(app: Umbel, message: Message, error: Exception) -> Outcome:
    """The outcome of a message that cannot be run at all."""
    result = None
    if message.id and not app.backend.features.knows_nothing:
        plain = encode_exception(error, app.backend.options.serializer)
        meta = Meta(task_id=message.id, status="FAILURE", result=plain, date_done=app.date_done(), children=[])
        result = app.backend.encode(
            meta, reply_to=message.reply_to, correlation_id=message.correlation_id or message.id
        )
    reason = f"{type(error).__name__}: {error}"
    return Outcome(
        state="FAILURE",
        value=error,
        result=result,
        action=Action.DEAD_LETTER,
        reason=reason,
        error_repr=error_text(error),
    )
