"""How a run ends: what a task returned or raised, made into an :class:`Outcome`.

The task's handlers are called here, then the receivers of signals; neither can change the outcome.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from msgspec import Struct

from umbel import followups
from umbel.backends.base import Meta, Part, Result
from umbel.brokers.base import Action
from umbel.canvas.members import part_of
from umbel.codecs.exceptions import encode_exception
from umbel.errors import Ignore, Reject, Replaced, Retry, TaskError, TaskRevokedError, TimeLimitExceeded
from umbel.failures import ExceptionInfo, error_text, release, storable, traceback_text
from umbel.message import Message
from umbel.outcomes import encode_result, result_meta, stores_result
from umbel.retrying import retry_automatically, wants_retry
from umbel.signals import (
    task_failure,
    task_internal_error,
    task_postrun,
    task_rejected,
    task_retry,
    task_revoked,
    task_success,
)

if TYPE_CHECKING:
    from umbel.app import Umbel
    from umbel.plans import Plan
    from umbel.request import Request
    from umbel.task import Task

log = logging.getLogger("umbel.task")


class Outcome(Struct, kw_only=True):
    """What came of one delivery.

    ``state``: SUCCESS, FAILURE, RETRY, IGNORED, REJECTED or REVOKED. ``value``: the return value or the exception.
    ``traceback``: text. ``result``: encoded, None when nothing is to be stored. ``publish``: messages to send in
    the same settlement. ``parts``, ``closes``: as of a settlement. ``action``, ``delay`` (seconds) and ``reason``:
    how the delivery ends. ``runtime``: seconds. ``error_repr``: the exception for logs; ``expected``: its class is
    among the task's ``throws``.
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
    parts: tuple[Part, ...] = ()
    closes: str = ""


def returned(app: Umbel, task: Task[..., Any], plan: Plan, request: Request, value: Any, runtime: float) -> Outcome:
    """The outcome of a task that returned. Raises what makes it a failure after all."""
    publish = request.publish
    if request.callbacks or request.chain:
        publish = (*publish, *followups.after_success(app, request, value))
    parts = request.parts
    if request.chord:
        parts = (*parts, *part_of(app, request, "SUCCESS", value))
    result = None
    if stores_result(app, task, request):
        meta = result_meta(app, request, "SUCCESS", value)
        meta.date_done = app.date_done()
        result = encode_result(app, request, meta)
    if plan.on_success is not None:
        plan.on_success(value, request.id, request.args, request.kwargs)
    if plan.after_return is not None:
        _handle(plan.after_return, "SUCCESS", value, request.id, request.args, request.kwargs, None)
    if task_success.receivers:
        task_success.send(sender=task, result=value, runtime=runtime)
    if task_postrun.receivers:
        _send_postrun(task, request, "SUCCESS", value)
    return Outcome(
        state="SUCCESS",
        value=value,
        result=result,
        publish=publish,
        runtime=runtime,
        parts=parts,
        closes=request.closes,
    )


def ended(
    app: Umbel, task: Task[..., Any], plan: Plan, request: Request, error: BaseException, runtime: float
) -> Outcome:
    """The outcome of a task that raised, also where telling it fails: the result store refuses, a signal comes."""
    try:
        outcome = _raised(app, task, plan, request, error, runtime)
    except BaseException as second:
        outcome = _untellable(app, task, request, second, runtime)
    if task_postrun.receivers:
        _send_postrun(task, request, outcome.state, error if outcome.value is None else outcome.value)
    return outcome


def _send_postrun(task: Task[..., Any], request: Request, state: str, value: Any) -> None:
    call = {"task_id": request.id, "task": task, "args": request.args, "kwargs": request.kwargs}
    task_postrun.send(sender=task, **call, retval=value, state=state)


def _untellable(app: Umbel, task: Task[..., Any], request: Request, error: BaseException, runtime: float) -> Outcome:
    """The outcome of a task whose own cannot be made: the failure to make it."""
    log.exception("the failure of a task cannot be stored: task=%s id=%s", task.name, request.id)
    text = traceback_text(error)
    value = storable(error)
    if task_internal_error.receivers:
        task_internal_error.send(
            sender=task,
            task_id=request.id,
            args=request.args,
            kwargs=request.kwargs,
            request=request,
            exception=value,
            traceback=error.__traceback__,
            einfo=ExceptionInfo(value, text),
        )
    release(error)
    result = None
    plain = encode_exception(TaskError(error_text(value)), app.backend.options.serializer)
    if stores_result(app, task, request):
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
        parts=_untold_parts(app, request, plain),
    )


def _untold_parts(app: Umbel, request: Request, plain: Any) -> tuple[Part, ...]:
    """What chords are told where telling it failed before."""
    parts = part_of(app, request, "FAILURE", plain) if request.chord else ()
    if request.chain and not request.is_eager:
        try:
            parts = (*parts, *followups.fail_rest_of_chain(app, request, plain, "", app.date_done()))
        except Exception:
            log.exception("who waits for the rest of a chain is not told: task=%s id=%s", request.task, request.id)
    return parts


def _raised(
    app: Umbel, task: Task[..., Any], plan: Plan, request: Request, error: BaseException, runtime: float
) -> Outcome:
    if isinstance(error, Ignore):
        parts = () if isinstance(error, Replaced) else _parts_of_failure(app, request, error)
        return Outcome(state="IGNORED", publish=request.publish, runtime=runtime, parts=parts)
    if isinstance(error, Reject):
        action = Action.REQUEUE if error.requeue else Action.DEAD_LETTER
        reason = "" if error.reason is None else str(error.reason)
        parts = () if error.requeue else _parts_of_failure(app, request, error)
        release(error)
        return Outcome(
            state="REJECTED", publish=request.publish, action=action, reason=reason, runtime=runtime, parts=parts
        )
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
    if plan.on_retry is not None or plan.after_return is not None or task_retry.receivers:
        info = ExceptionInfo(cause, text)
        call = (request.id, request.args, request.kwargs, info)
        if plan.on_retry is not None:
            _handle(plan.on_retry, cause, *call)
        if task_retry.receivers:
            task_retry.send(sender=task, request=request, reason=retry, einfo=info)
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
    result, parts = _consequences(app, task, request, shown, text)
    if plan.on_failure is not None or plan.after_return is not None or task_failure.receivers:
        info = ExceptionInfo(shown, text)
        call = (request.id, request.args, request.kwargs, info)
        if plan.on_failure is not None:
            _handle(plan.on_failure, shown, *call)
        if task_failure.receivers:
            _send_failure(task, request, shown, error, info)
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
        parts=parts,
    )


def _consequences(
    app: Umbel, task: Task[..., Any], request: Request, shown: BaseException, text: str
) -> tuple[Result | None, tuple[Part, ...]]:
    """What is stored of a failure, and what it means for chords; also of the links of a chain that will never run."""
    plain = encode_exception(shown, app.backend.options.serializer)
    parts = part_of(app, request, "FAILURE", plain) if request.chord else ()
    if request.chain and not request.is_eager:
        parts = (*parts, *followups.fail_rest_of_chain(app, request, plain, text, app.date_done()))
    stored = stores_result(app, task, request)
    if not stored and (not task.store_errors_even_if_ignored or app.backend.features.knows_nothing):
        return None, parts
    meta = result_meta(app, request, "FAILURE", plain)
    meta.traceback = text
    meta.date_done = app.date_done()
    return encode_result(app, request, meta), parts


def timed_out(
    app: Umbel,
    task: Task[..., Any],
    request: Request,
    error: TimeLimitExceeded,
    runtime: float,
    later: list[Callable[[], object]],
) -> Outcome:
    """The outcome of a task that was ended by its hard time limit. Its process cannot make it, so no handler of the
    task is called. ``later``: is filled with what may be called once the outcome counts."""
    text = str(error)
    publish = followups.after_failure(app, request, error, text, later) if request.errbacks else ()
    own = task.acks_on_timeout
    acknowledged = own if own is not None else task.acks_on_failure_or_timeout is not False
    refused = task.acks_late and not acknowledged
    result, parts = _consequences(app, task, request, error, text)
    return Outcome(
        state="FAILURE",
        value=error,
        traceback=text,
        result=result,
        publish=publish,
        action=Action.DEAD_LETTER if refused else Action.ACK,
        reason=error_text(error) if refused else "",
        runtime=runtime,
        error_repr=error_text(error),
        parts=parts,
    )


def _parts_of_failure(app: Umbel, request: Request, error: BaseException) -> tuple[Part, ...]:
    """What chords are told of a task that ended without a result."""
    if not (request.chord or request.chain) or request.is_eager:
        return ()
    shown = TaskError(error_text(error))
    plain = encode_exception(shown, app.backend.options.serializer)
    parts = part_of(app, request, "FAILURE", plain) if request.chord else ()
    if request.chain:
        parts = (*parts, *followups.fail_rest_of_chain(app, request, plain, "", app.date_done()))
    return parts


def _send_failure(
    task: Task[..., Any], request: Request, shown: BaseException, error: BaseException, info: ExceptionInfo
) -> None:
    task_failure.send(
        sender=task,
        task_id=request.id,
        exception=shown,
        args=request.args,
        kwargs=request.kwargs,
        traceback=error.__traceback__,
        einfo=info,
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


def expired(app: Umbel, task: Task[..., Any], request: Request) -> Outcome:
    """The outcome of a task whose time ran out while it waited in the worker."""
    error = TaskRevokedError("expired")
    result = None
    if stores_result(app, task, request):
        meta = result_meta(app, request, "REVOKED", encode_exception(error, app.backend.options.serializer))
        meta.date_done = app.date_done()
        result = encode_result(app, request, meta)
    if task_revoked.receivers:
        task_revoked.send(sender=task, request=request, terminated=False, signum=None, expired=True)
    parts = _parts_of_failure(app, request, error)
    return Outcome(state="REVOKED", value=error, result=result, error_repr=error_text(error), parts=parts)


def unreadable(app: Umbel, message: Message, error: Exception) -> Outcome:
    """The outcome of a message that cannot be run at all."""
    if task_rejected.receivers:
        task_rejected.send(sender=app, message=message, exc=error)
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
