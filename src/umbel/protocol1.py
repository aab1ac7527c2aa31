"""Task messages of protocol 1, which older and foreign clients send: everything is in the body, one object."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any, cast

import msgspec

from umbel.codecs import dumps, loads
from umbel.errors import EncodeError, InvalidTaskError
from umbel.message import Headers, Message, encode_headers, parse_moment


def upgrade_protocol1(message: Message, accept: Collection[str]) -> Message:
    """The same call as a message of protocol 2.

    ``accept``: content types that may be decoded. Raises InvalidTaskError when the body is no call of a task,
    ContentDisallowed and DecodeError as ``codecs.loads`` does.
    """
    body = loads(message.body, message.content_type, message.content_encoding, accept, _compression(message))
    if not isinstance(body, Mapping):
        raise InvalidTaskError("the message names no task: neither a header 'task' nor a body of protocol 1")
    fields = cast("Mapping[str, Any]", body)
    task, task_id = fields.get("task"), fields.get("id")
    if not isinstance(task, str) or not isinstance(task_id, str) or not task or not task_id:
        raise InvalidTaskError("a message of protocol 1 needs 'task' and 'id'")
    eta, expires = fields.get("eta"), fields.get("expires")
    embed = {
        "callbacks": fields.get("callbacks"),
        "errbacks": fields.get("errbacks"),
        "chain": None,
        "chord": fields.get("chord"),
    }
    try:
        limits = tuple(fields.get("timelimit") or (None, None))
        headers = Headers(
            task=task,
            id=task_id,
            eta=eta,
            expires=expires,
            group=fields.get("group") or fields.get("taskset"),
            group_index=fields.get("group_index"),
            retries=int(fields.get("retries") or 0),
            timelimit=(limits[0], limits[1]),
            root_id=task_id,
            ignore_result=None,
        )
        encoded = dumps((fields.get("args") or [], fields.get("kwargs") or {}, embed), message.content_type)
        written = encode_headers(headers)
    except (TypeError, ValueError, LookupError, OverflowError, EncodeError) as error:
        raise InvalidTaskError(f"message of protocol 1 for task {task!r} cannot be read: {error}") from error
    return msgspec.structs.replace(
        message,
        id=task_id,
        task=task,
        headers=written,
        body=encoded.body,
        content_type=encoded.content_type,
        content_encoding=encoded.content_encoding,
        eta=_moment(eta, fields),
        expires=_moment(expires, fields),
        correlation_id=message.correlation_id or task_id,
    )


def _compression(message: Message) -> str | None:
    try:
        found = msgspec.json.decode(message.headers, type=dict[str, Any])
    except msgspec.MsgspecError as error:
        raise InvalidTaskError(f"message headers cannot be read: {error}") from error
    return found.get("compression")


def _moment(value: Any, fields: Mapping[str, Any]) -> float | None:
    """Unix time of ``eta`` or ``expires``; with ``utc: false`` a naive one is local time."""
    if not value:
        return None
    if not isinstance(value, str):
        raise InvalidTaskError(f"not an ISO 8601 moment: {value!r}")
    if fields.get("utc") is False:
        import datetime

        try:
            return datetime.datetime.fromisoformat(value).timestamp()
        except ValueError as error:
            raise InvalidTaskError(f"not an ISO 8601 moment: {value!r}") from error
    return parse_moment(value)
