"""Retries: when, how often, and the message that runs the same call once more."""

from __future__ import annotations

import random
import sys
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from umbel.errors import Retry, TaskPredicate

if TYPE_CHECKING:
    from umbel.canvas.signature import Signature
    from umbel.request import Request
    from umbel.task import Task


def retry(
    task: Task[..., Any],
    args: Sequence[Any] | None,
    kwargs: Mapping[str, Any] | None,
    exc: BaseException | None,
    throw: bool,
    eta: Any,
    countdown: float | None,
    max_retries: int | None,
    options: Mapping[str, Any],
) -> Retry:
    """What ``Task.retry`` does. The message is put on the request; the settlement of this delivery sends it."""
    request = task.request
    if request.called_directly:
        _raise_instead(exc, Retry("the task was called directly, there is nothing to retry"))
    limit = task.max_retries if max_retries is None else max_retries
    if eta is None and countdown is None:
        countdown = task.default_retry_delay
    retries = request.retries + 1
    if limit is not None and retries > limit:
        args = request.args if args is None else args
        kwargs = request.kwargs if kwargs is None else kwargs
        name = f"{task.name}[{request.id}]"
        _raise_instead(
            exc,
            task.MaxRetriesExceededError(
                f"{name} was retried {request.retries} times, max_retries is {limit}: args={args!r} kwargs={kwargs!r}",
                task_args=args,
                task_kwargs=kwargs,
            ),
            handled=False,
        )
    when = {"eta": eta} if eta is not None else {"countdown": countdown}
    sig = signature_from_request(task, request, args, kwargs, None, {**when, **options, "retries": retries})
    raised = Retry(exc=exc, when=eta if eta is not None else countdown, is_eager=request.is_eager, sig=sig)
    if not request.is_eager:
        messages, _ = sig.messages(task.app, add_to_parent=False)
        request.publish = tuple(messages)
    if throw:
        raise raised from exc
    return raised


def _raise_instead(exc: BaseException | None, otherwise: BaseException, handled: bool = True) -> None:
    """Raise ``exc``; without one the exception being handled, if ``handled``, else ``otherwise``."""
    present = sys.exc_info()[1]
    if exc is None and handled:
        exc = present
    if exc is None:
        raise otherwise
    if exc is present or present is None:
        raise exc
    raise exc from present


def signature_from_request(
    task: Task[..., Any],
    request: Request,
    args: Sequence[Any] | None,
    kwargs: Mapping[str, Any] | None,
    queue: str | None,
    extra: Mapping[str, Any],
) -> Signature:
    """The call of ``request`` as data: same id, group, links, limits, headers, priority, format and queue."""
    options = request.as_execution_options()
    options.pop("parent_id")
    if args is None and request.argsrepr is not None:
        options["argsrepr"] = request.argsrepr
    if kwargs is None and request.kwargsrepr is not None:
        options["kwargsrepr"] = request.kwargsrepr
    options["ignore_result"] = request.ignore_result
    message = request.message
    if message is not None:
        options["priority"] = message.priority
        options["serializer"] = message.content_type
        options["compression"] = request.compression
        key = message.routing_key or message.queue
        options |= {"exchange": message.exchange, "routing_key": key} if message.exchange else {"queue": key}
    if queue is not None:
        options["queue"] = queue
        options.pop("exchange", None)
        options.pop("routing_key", None)
    return task.signature(
        tuple(request.args or ()) if args is None else args,
        dict(request.kwargs or {}) if kwargs is None else kwargs,
        {name: value for name, value in {**options, **extra}.items() if value is not None},
    )


def wants_retry(task: Task[..., Any], error: BaseException) -> bool:
    """Whether ``autoretry_for`` and ``dont_autoretry_for`` ask to retry after ``error``."""
    return (
        bool(task.autoretry_for)
        and isinstance(error, task.autoretry_for)
        and not isinstance(error, task.dont_autoretry_for)
        and not isinstance(error, TaskPredicate)
    )


def retry_automatically(task: Task[..., Any], error: BaseException) -> Retry:
    """The retry after ``error``. Raises ``error`` when there were enough."""
    given: dict[str, Any] = {**task.retry_kwargs, "throw": False, "exc": error}
    if task.retry_backoff:
        given["countdown"] = backoff(
            float(task.retry_backoff), task.request.retries, task.retry_backoff_max, task.retry_jitter
        )
    return task.retry(**given)


def backoff(factor: float, retries: int, maximum: float, jitter: bool) -> float:
    """Seconds before the next retry: ``factor * 2 ** retries``, at most ``maximum``; with ``jitter`` any time up to
    that."""
    pause = min(maximum, factor * 2.0 ** min(retries, 1000))
    return max(0.0, random.uniform(0, pause) if jitter else pause)
