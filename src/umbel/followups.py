"""What is to be sent when a task has ended: callbacks, the next link of a chain, error callbacks."""

from __future__ import annotations

import inspect
import logging
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Any, cast

from umbel.backends.base import Part
from umbel.canvas.members import fallout
from umbel.canvas.signature import Signature, signature
from umbel.canvas.storing import all_links, next_link

if TYPE_CHECKING:
    from umbel.app import Umbel
    from umbel.message import Message
    from umbel.request import Request

log = logging.getLogger("umbel.task")


def after_success(app: Umbel, request: Request, value: Any) -> tuple[Message, ...]:
    """Messages of the callbacks and of the next link of the chain, each with ``value`` as first argument."""
    calls: list[tuple[Signature, dict[str, Any]]] = [
        (signature(data, app=app), {}) for data in cast("list[Any]", request.callbacks or ())
    ]
    if request.chain:
        following, rest = next_link(app, request.chain)
        calls.append((signature(following, app=app), {"chain": rest}))
    if request.is_eager and app.conf.task_always_eager:
        for call, options in calls:
            call.apply_async((value,), **options)
        return ()
    found: list[Message] = []
    for call, options in calls:
        found += call.messages(app, (value,), **options)[0]
    return tuple(found)


def after_failure(
    app: Umbel,
    request: Request,
    error: BaseException,
    traceback: str,
    later: list[Callable[[], object]] | None = None,
) -> tuple[Message, ...]:
    """Messages of the error callbacks. One that is known here and takes ``(request, exc, traceback)`` is called at
    once, or put into ``later``; others are sent with the id of the failed task."""
    found: list[Message] = []
    for data in cast("list[Any]", request.errbacks or ()):
        try:
            call = signature(data, app=app)
            task = app.tasks.get(call.task)
            if task is not None and _takes_error(task.run):
                if later is None:
                    call(request, error, traceback)
                else:
                    later.append(partial(_call_errback, call, request, error, traceback))
            elif request.is_eager and app.conf.task_always_eager:
                call.apply_async((request.id,))
            else:
                found += call.messages(app, (request.id,))[0]
        except Exception:
            log.exception("error callback failed: task=%s id=%s errback=%r", request.task, request.id, data)
    return tuple(found)


def _call_errback(call: Signature, request: Request, error: BaseException, traceback: str) -> None:
    try:
        call(request, error, traceback)
    except Exception:
        log.exception("error callback failed: task=%s id=%s errback=%r", request.task, request.id, call)


def _takes_error(function: Any) -> bool:
    """Whether ``function`` takes more than the id of the failed task."""
    kinds = inspect.Parameter
    count = 0
    for parameter in inspect.signature(function).parameters.values():
        if parameter.kind == kinds.VAR_POSITIONAL:
            return True
        count += parameter.kind in (kinds.POSITIONAL_ONLY, kinds.POSITIONAL_OR_KEYWORD)
    return count > 1


def fail_rest_of_chain(app: Umbel, request: Request, plain_error: Any, traceback: str, done: str) -> tuple[Part, ...]:
    """Store FAILURE for the links that will never run, so that nobody waits for them; their parts in chords."""
    links = all_links(app, cast("list[Any]", request.chain))
    queue = request.message.queue if request.message is not None else ""
    results, parts = fallout(app, reversed(links), plain_error, traceback, done, request.root_id, queue)
    for result in results:
        store(request, app.backend, result)
    return tuple(parts)


def store(request: Request, backend: Any, result: Any) -> None:
    """Store a result other than the final one: through the executor where there is one, else directly."""
    report = request.report
    if report is not None:
        report(result)
    else:
        backend.store([result])
