"""Results of calls, encoded for the result store by the process that ran them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, cast

from umbel.backends.base import Meta, Result
from umbel.codecs.representation import safe_repr
from umbel.errors import EncodeError

if TYPE_CHECKING:
    from umbel.app import Umbel
    from umbel.message import Message
    from umbel.request import Request
    from umbel.task import Task


def stores_result(app: Umbel, task: Task[..., Any], request: Request) -> bool:
    """Whether the result of this call is to be stored."""
    if request.is_eager and not task.store_eager_result:
        return False
    ignore = request.ignore_result
    if ignore is None:
        ignore = task.ignore_result
    return not ignore and not app.backend.features.knows_nothing


def result_meta(app: Umbel, request: Request, state: str, value: Any) -> Meta:
    """What is known of the call in ``state``; with ``result_extended`` also what was called, where and how."""
    results = request.results
    meta = Meta(
        task_id=request.id,
        status=state,
        result=value,
        children=[child.as_tuple() for child in results] if results else [],
        group_id=request.group,
        parent_id=request.parent_id,
    )
    if app.backend.options.extended:
        message = cast("Message | None", request.message)
        meta.name = request.task
        meta.args = request.args
        meta.kwargs = request.kwargs
        meta.worker = request.hostname
        meta.retries = request.retries
        meta.queue = message.queue if message is not None else None
        if request.stamped_headers:
            stamps = request.stamps or {}
            meta.stamps = {name: stamps.get(name) for name in request.stamped_headers}
    return meta


def encode_result(app: Umbel, request: Request, meta: Meta) -> Result:
    """``meta`` encoded; arguments that the result serializer cannot write are shown as text. Raises EncodeError."""
    reply_to, correlation_id = request.reply_to or "", request.correlation_id or request.id
    try:
        return app.backend.encode(meta, reply_to=reply_to, correlation_id=correlation_id)
    except EncodeError:
        if meta.args is None and meta.kwargs is None:
            raise
        meta.args, meta.kwargs = safe_repr(meta.args), safe_repr(meta.kwargs)
        return app.backend.encode(meta, reply_to=reply_to, correlation_id=correlation_id)
