"""Tasks that every application has, because canvases need them.

``umbel.chord`` finishes a chord; the names that begin with ``celery.`` are those that Celery's clients send.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping, Sequence
from types import CoroutineType
from typing import TYPE_CHECKING, Any, cast

from umbel import followups
from umbel.canvas.checking import errbacks_of
from umbel.canvas.members import FINISH, UNLOCK, fallout
from umbel.canvas.signature import Signature, signature
from umbel.canvas.storing import resolved
from umbel.codecs.exceptions import decode_exception, encode_exception
from umbel.errors import ChordError, OperationalError, UmbelError
from umbel.failures import storable, traceback_text
from umbel.groups import GroupResult
from umbel.joining import allow_join_result
from umbel.loops import run_in_loop
from umbel.message import Message
from umbel.request import Request
from umbel.result import result_from_tuple

if TYPE_CHECKING:
    from umbel.app import Umbel
    from umbel.task import Task

log = logging.getLogger("umbel.canvas")

RETRY_DELAY = 1.0
"""Seconds until a chord is finished again whose result store could not be reached."""


def add_builtin_tasks(app: Umbel) -> None:
    """Register them with an application, except where it has a task of that name."""
    quiet = {
        "acks_late": True,
        "ignore_result": True,
        "store_errors_even_if_ignored": False,
        "max_retries": None,
        "rate_limit": None,
    }
    finishing = {
        "bind": True,
        "autoretry_for": (OperationalError,),
        "default_retry_delay": RETRY_DELAY,
        "retry_kwargs": {"countdown": RETRY_DELAY},
    }
    app.make_task(finish_chord, name=FINISH, **finishing, **quiet)
    app.make_task(unlock_chord, name=UNLOCK, **finishing, **quiet)
    app.make_task(call_each, name="celery.map", bind=True)
    app.make_task(call_each_with, name="celery.starmap", bind=True)
    app.make_task(accumulate, name="celery.accumulate")


def finish_chord(self: Task[..., Any], chord: str, body: dict[str, Any]) -> None:
    """Send the body of a chord whose members have all ended, or fail it if one of them did."""
    app, request = self.app, self.request
    backend = app.backend
    if not backend.claim_chord(chord, request.id):
        log.debug("chord %s is finished by another message", chord)
        return
    try:
        call = signature(resolved(app, body), app=app)
        found = [backend.decode_part(payload) for payload in backend.chord_parts(chord)]
        document = backend.restore_group(chord)
    except OperationalError:
        raise
    except UmbelError as error:
        _fail(request, signature(body, app=app), error)
    else:
        _end(request, call, found, document)
    request.closes = chord


def unlock_chord(
    self: Task[..., Any],
    group_id: str,
    callback: dict[str, Any],
    interval: float | None = None,
    max_retries: int | None = None,
    result: Sequence[Any] = (),
    **ignored: Any,
) -> None:
    """What Celery's clients send with a chord on a result store that cannot count: looks again and again."""
    app, request = self.app, self.request
    whole = GroupResult(group_id, [result_from_tuple(item, app) for item in result], app=app)
    if not whole.ready():
        if max_retries is not None and request.retries >= max_retries:
            error = ChordError(f"its members have not ended when they were looked for {max_retries + 1} times")
            _fail(request, signature(callback, app=app), error)
            return
        self.retry(countdown=interval or app.conf.result_chord_retry_interval)
    with allow_join_result():
        found = [(leaf.id, leaf.state, _told(leaf)) for leaf in whole.leaves()]
    _end(request, signature(callback, app=app), found, {"result": whole.as_tuple()})


def _told(leaf: Any) -> Any:
    value = leaf.result
    return encode_exception(value, leaf.backend.options.serializer) if isinstance(value, BaseException) else value


def _end(request: Request, call: Signature, parts: Sequence[tuple[str, str, Any]], document: Any) -> None:
    """Put the messages of the body into the settlement of ``request``, or the consequences of a failure."""
    app = call.app
    try:
        values = _values(parts, document)
        options = {"root_id": request.root_id, "parent_id": request.parent_id}
        request.publish = (*request.publish, *_body_messages(app, call, values, options))
    except OperationalError:
        raise
    except Exception as error:
        _fail(request, call, error)


def _values(parts: Sequence[tuple[str, str, Any]], document: Any) -> list[Any]:
    """The results in the order and shape of the header. Raises ChordError when one of them is an error."""
    if not parts:
        raise ChordError("the results of its members are not kept any more; see result_chord_expires")
    for member, state, value in parts:
        if state != "SUCCESS":
            raise ChordError(f"Dependency {member} raised {decode_exception(value)!r}")
    if document is None:
        return [value for _, _, value in parts]
    stored = cast("Any", document)["result"] if isinstance(document, Mapping) else document
    by_member = {member: value for member, _, value in parts}
    whole = cast("GroupResult", result_from_tuple(stored))
    values = [_shaped(item, by_member) for item in whole.results]
    named = {leaf.id for leaf in whole.leaves()}
    return values + [value for member, _, value in parts if member not in named]


def _shaped(result: Any, values: Mapping[str, Any]) -> Any:
    if isinstance(result, GroupResult):
        return [_shaped(item, values) for item in result.results]
    return values[result.id]


def _body_messages(app: Umbel, call: Signature, values: list[Any], options: dict[str, Any]) -> list[Message]:
    if call.subtask_type is None:
        return call.messages(app, (values,), **{**options, **call.options, "add_to_parent": False})[0]
    call.freeze()
    return list(call.emit(app, (values,)))


def _fail(request: Request, call: Signature, error: Exception) -> None:
    """Nothing of the body will run: that is its result, and its part where it is a member of a chord itself."""
    app, message = call.app, request.message
    text = traceback_text(error)
    shown = storable(error)
    plain = encode_exception(shown, app.backend.options.serializer)
    queue = message.queue if message is not None else ""
    results, parts = fallout(app, [call], plain, text, app.date_done(), request.root_id, queue)
    for result in results:
        followups.store(request, app.backend, result)
    request.parts = (*request.parts, *parts)
    failed = Request(
        id=call.frozen_id or request.id,
        task=call.task,
        errbacks=errbacks_of(call),
        root_id=request.root_id,
        parent_id=request.parent_id,
        hostname=request.hostname,
        called_directly=False,
    )
    request.publish = (*request.publish, *followups.after_failure(app, failed, shown, text))


def call_each(self: Task[..., Any], task: dict[str, Any], it: Iterable[Any]) -> list[Any]:
    """Call a task with each item."""
    call = signature(task, app=self.app)
    return [_awaited(call(item)) for item in it]


def call_each_with(self: Task[..., Any], task: dict[str, Any], it: Iterable[Sequence[Any]]) -> list[Any]:
    """Call a task with each item as its arguments."""
    call = signature(task, app=self.app)
    return [_awaited(call(*item)) for item in it]


def _awaited(value: Any) -> Any:
    return run_in_loop(cast("Any", value)) if type(value) is CoroutineType else value


def accumulate(*args: Any, index: int | None = None) -> Any:
    """What it is called with: all of it, or one of it."""
    return args if index is None else args[index]
