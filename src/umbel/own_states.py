"""Intermediate states that a running task stores of itself."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from umbel.backends.base import Meta
from umbel.codecs.exceptions import encode_exception
from umbel.errors import NoBackend
from umbel.states import EXCEPTION_STATES

if TYPE_CHECKING:
    from umbel.request import Request
    from umbel.task import Task


def store_state(task: Task[..., Any], request: Request, task_id: str | None, state: str, meta: Any) -> None:
    """What ``Task.update_state`` does. Raises EncodeError, NoBackend."""
    backend = task.app.backend
    if backend.features.knows_nothing:
        raise NoBackend("update_state needs a result backend: set result_backend")
    if isinstance(meta, BaseException) and state in EXCEPTION_STATES:
        meta = encode_exception(meta, backend.options.serializer)
    result = backend.encode(
        Meta(
            task_id=task_id or request.id,
            status=state,
            result=meta,
            group_id=request.group,
            parent_id=request.parent_id,
        ),
        reply_to=request.reply_to or "",
        correlation_id=request.correlation_id or request.id,
    )
    report = request.report
    if report is not None:
        report(result)
    else:
        backend.store([result])
