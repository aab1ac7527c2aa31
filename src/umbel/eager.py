"""Tasks run in the caller's process: ``Task.apply``, and every call with ``task_always_eager``."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from umbel import followups
from umbel.canvas.checking import errbacks_of
from umbel.codecs import dumps, loads
from umbel.current import current_request
from umbel.errors import ChordError, Retry
from umbel.execution import Outcome, execute
from umbel.message import new_id
from umbel.request import Request
from umbel.result import EagerResult
from umbel.sending import check_options, signature_list

if TYPE_CHECKING:
    from umbel.canvas.chord import chord
    from umbel.task import Task


def apply(
    task: Task[..., Any],
    args: Sequence[Any] | None,
    kwargs: Mapping[str, Any] | None,
    *,
    task_id: str | None,
    retries: int,
    throw: bool | None,
    options: Mapping[str, Any],
) -> EagerResult[Any]:
    """Run ``task`` until it does not ask for a retry any more.

    Callbacks are run here too with ``task_always_eager``, otherwise sent. The result is stored with
    ``task_store_eager_result``.
    """
    app = task.app
    app.finalize()
    given = {name: value for name, value in options.items() if value is not None}
    loglevel, logfile = given.pop("loglevel", None), given.pop("logfile", None)
    check_options(given)
    if throw is None:
        throw = given.pop("throw", None)
    if throw is None:
        throw = app.conf.task_eager_propagates
    task.check_arguments(args, kwargs)
    args, kwargs = tuple(args or ()), dict(kwargs or {})
    run_id: str = task_id or given.get("task_id") or new_id()
    while True:
        request = _request(task, run_id, retries, given)
        request.loglevel, request.logfile = loglevel, logfile
        outcome = execute(app, task, request, args, kwargs)
        if not isinstance(outcome.value, Retry) or outcome.value.sig is None:
            break
        args, kwargs = outcome.value.sig.args, outcome.value.sig.kwargs
        retries += 1
    _finish(task, outcome)
    if request.replacement is not None:
        return _of_replacement(task, run_id, request.replacement, throw)
    if throw and outcome.state == "FAILURE":
        raise outcome.value
    value = outcome.value if outcome.state != "REJECTED" else outcome.reason
    result: EagerResult[Any] = EagerResult(run_id, value, outcome.state, outcome.traceback, task.name)
    return result


def as_sent(task: Task[..., Any], args: Any, kwargs: Any, options: Mapping[str, Any]) -> tuple[Any, Any]:
    """Arguments as a worker would get them: through the serializer and back. Raises EncodeError."""
    conf = task.app.conf
    kind = options.get("serializer") or task.send_defaults().get("serializer") or conf.task_serializer
    encoded = dumps((args or (), kwargs or {}), kind)
    found = loads(encoded.body, encoded.content_type, encoded.content_encoding, frozenset({encoded.content_type}))
    return found[0], found[1]


def apply_chord(whole: chord, options: Mapping[str, Any], propagate: bool = True) -> EagerResult[Any]:
    """Run the members of a chord, then its body; if one has failed, and ``propagate``, the body's error callbacks
    instead."""
    from umbel.canvas.chain import eldest

    members, body = whole.header.apply(), whole.needed_body()
    failed = next((leaf for leaf in members.leaves() if not leaf.successful()), None)
    if failed is None or not propagate:
        result = body.apply((members.get(disable_sync_subtasks=False, propagate=False),), **options)
    else:
        error = ChordError(f"Dependency {failed.id} raised {failed.result!r}")
        result = _failed_body(whole, error, failed.traceback, options)
    eldest(result).parent = members
    return result


def _failed_body(
    whole: chord, error: ChordError, traceback: str | None, options: Mapping[str, Any]
) -> EagerResult[Any]:
    app, body = whole.app, whole.needed_body()
    throw = options.get("throw")
    body_id: str = options.get("task_id") or body.frozen_id or new_id()
    request = Request(
        id=body_id,
        task=body.task,
        errbacks=errbacks_of(body),
        is_eager=True,
        called_directly=False,
        hostname="eager",
    )
    messages = followups.after_failure(app, request, error, traceback or "")
    if messages:
        app.publish(list(messages))
    if app.conf.task_eager_propagates if throw is None else throw:
        raise error
    result: EagerResult[Any] = EagerResult(body_id, error, "FAILURE", traceback, body.task)
    return result


def _of_replacement(task: Task[..., Any], run_id: str, call: Any, throw: bool) -> EagerResult[Any]:
    """Run what a task has put in its place: its result, under the id of the task."""
    done = call.apply(task_id=run_id, throw=throw)
    result: EagerResult[Any] = EagerResult(run_id, done.result, done.state, done.traceback, task.name)
    result.parent = done.parent
    return result


def _request(task: Task[..., Any], task_id: str, retries: int, options: Mapping[str, Any]) -> Request:
    parent = current_request()
    inside = parent is not None and not parent.called_directly
    headers = dict(options.get("headers") or {})
    stamps = {name: options.get(name) for name in options.get("stamped_headers") or ()}
    return Request(
        id=task_id,
        task=task.name,
        retries=retries,
        is_eager=True,
        called_directly=False,
        hostname="eager",
        correlation_id=task_id,
        root_id=options.get("root_id") or ((parent.root_id or parent.id) if parent and inside else task_id),
        parent_id=options.get("parent_id") or (parent.id if parent and inside else None),
        group=options.get("group_id"),
        group_index=options.get("group_index"),
        shadow=options.get("shadow"),
        timelimit=(options.get("time_limit"), options.get("soft_time_limit")),
        ignore_result=options.get("ignore_result"),
        stamped_headers=options.get("stamped_headers"),
        stamps={**(options.get("stamps") or {}), **stamps},
        callbacks=signature_list(options.get("link")),
        errbacks=signature_list(options.get("link_error")),
        chain=options.get("chain"),
        chord=options.get("chord"),
        own_headers=headers,
    )


def _finish(task: Task[..., Any], outcome: Outcome) -> None:
    if outcome.publish:
        task.app.publish(list(outcome.publish))
    if outcome.result is not None:
        task.app.backend.store([outcome.result])
