"""``app.amqp.as_task_v2`` and its kind: a call as the parts of a message, to be looked at, kept or sent later.

Umbel's own sending does not come through here, see ``umbel.sending``; what is made here is what that would send.
"""

from __future__ import annotations

import datetime
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import msgspec

from umbel.codecs import compress, dumps
from umbel.codecs.representation import safe_repr
from umbel.errors import ConfigurationError
from umbel.message import Message, origin, parse_moment
from umbel.sending import check_size, signature_list

if TYPE_CHECKING:
    from umbel.app import Umbel

REPR_SIZE = 1024


class task_message(NamedTuple):
    """A call as the parts of a message. ``sent_event``: what an event that it was sent would say, or None."""

    headers: dict[str, Any]
    properties: dict[str, Any]
    body: Any
    sent_event: dict[str, Any] | None


def moment(app: Umbel, at: Any, after: float | None, now: datetime.datetime | None, timezone: Any) -> str | None:
    """A moment in ISO 8601: ``at``, or ``after`` seconds from ``now``; ``at`` may be seconds too."""
    if isinstance(at, (int, float)):
        at, after = None, at
    if after is not None:
        at = (now or app.now()) + datetime.timedelta(seconds=after)
        if timezone is not None:
            at = at.astimezone(timezone)
    return at.isoformat() if isinstance(at, datetime.datetime) else at


def checked(name: str, args: Any, kwargs: Any) -> tuple[Sequence[Any], Mapping[str, Any]]:
    """Arguments of a call. Raises TypeError for what cannot be such."""
    args, kwargs = args or (), kwargs or {}
    if not isinstance(args, (list, tuple)):
        raise TypeError(f"args of {name} must be a list or tuple, not {type(args).__name__}")
    if not isinstance(kwargs, Mapping):
        raise TypeError(f"kwargs of {name} must be a mapping, not {type(kwargs).__name__}")
    return args, kwargs  # pyright: ignore[reportUnknownVariableType]


def in_protocol_2(
    app: Umbel, task_id: str, name: str, args: Any, kwargs: Any, create_sent_event: bool, given: Mapping[str, Any]
) -> task_message:
    """``given``: the further arguments of ``as_task_v2``."""
    args, kwargs = checked(name, args, kwargs)
    eta, expires = _moments(app, given)
    levels = app.conf.task_repr_maxlevels
    argsrepr = given["argsrepr"] or safe_repr(args, REPR_SIZE, levels)
    kwargsrepr = given["kwargsrepr"] or safe_repr(kwargs, REPR_SIZE, levels)
    root_id = given["root_id"] or task_id
    headers: dict[str, Any] = {
        "lang": "py",
        "task": name,
        "id": task_id,
        "shadow": given["shadow"],
        "eta": eta,
        "expires": expires,
        "group": given["group_id"],
        "group_index": given["group_index"],
        "retries": given["retries"],
        "timelimit": [given["time_limit"], given["soft_time_limit"]],
        "root_id": root_id,
        "parent_id": given["parent_id"],
        "argsrepr": argsrepr,
        "kwargsrepr": kwargsrepr,
        "origin": given["origin"] or origin(),
        "ignore_result": given["ignore_result"],
        "replaced_task_nesting": given["replaced_task_nesting"],
        "stamped_headers": given["stamped_headers"],
        "stamps": {name: given["options"].get(name) for name in given["stamped_headers"] or ()},
    }
    embed = {
        "callbacks": signature_list(given["callbacks"]),
        "errbacks": signature_list(given["errbacks"]),
        "chain": given["chain"],
        "chord": given["chord"],
    }
    event = {"root_id": root_id, "parent_id": given["parent_id"]}
    event |= _event(task_id, name, argsrepr, kwargsrepr, given["retries"], eta, expires)
    properties = {"correlation_id": task_id, "reply_to": given["reply_to"] or ""}
    return task_message(headers, properties, (args, kwargs, embed), event if create_sent_event else None)


def in_protocol_1(
    app: Umbel, task_id: str, name: str, args: Any, kwargs: Any, create_sent_event: bool, given: Mapping[str, Any]
) -> task_message:
    """``given``: the further arguments of ``as_task_v1``."""
    args, kwargs = checked(name, args, kwargs)
    eta, expires = _moments(app, given)
    body: dict[str, Any] = {
        "task": name,
        "id": task_id,
        "args": args,
        "kwargs": kwargs,
        "group": given["group_id"],
        "group_index": given["group_index"],
        "retries": given["retries"],
        "eta": eta,
        "expires": expires,
        "utc": app.conf.enable_utc,
        "callbacks": signature_list(given["callbacks"]),
        "errbacks": signature_list(given["errbacks"]),
        "timelimit": (given["time_limit"], given["soft_time_limit"]),
        "taskset": given["group_id"],
        "chord": given["chord"],
    }
    levels = app.conf.task_repr_maxlevels
    texts = safe_repr(args, REPR_SIZE, levels), safe_repr(kwargs, REPR_SIZE, levels)
    event = _event(task_id, name, *texts, given["retries"], eta, expires)
    properties = {"correlation_id": task_id, "reply_to": given["reply_to"] or ""}
    return task_message({}, properties, body, event if create_sent_event else None)


def _moments(app: Umbel, given: Mapping[str, Any]) -> tuple[str | None, str | None]:
    now, timezone = given["now"], given["timezone"]
    eta = moment(app, given["eta"], given["countdown"], now, timezone)
    expires = given["expires"]
    seconds = expires.total_seconds() if isinstance(expires, datetime.timedelta) else expires
    return eta, moment(app, seconds, None, now, timezone)


def _event(
    task_id: str, name: str, args: str, kwargs: str, retries: int, eta: str | None, expires: str | None
) -> dict[str, Any]:
    texts = {"args": args, "kwargs": kwargs}
    return {"uuid": task_id, "name": name, **texts, "retries": retries, "eta": eta, "expires": expires}


def send(app: Umbel, message: task_message, options: Mapping[str, Any]) -> None:
    """Send what ``as_task_v2`` made; ``options`` say where to, and how it is written, as those of ``apply_async``.

    Raises ConfigurationError for a message of protocol 1, and what ``Umbel.publish`` raises.
    """
    if not message.headers:
        raise ConfigurationError("a message of task protocol 1 can be read but not sent: make it by as_task_v2")
    given = {name: value for name, value in options.items() if value is not None}
    name = message.headers["task"]
    address = app.routes.address(given)
    encoded = dumps(message.body, given.get("serializer") or app.conf.task_serializer)
    headers = {**message.headers, **given.get("headers", {})}
    body, compression = encoded.body, given.get("compression") or app.conf.task_compression
    if compression:
        body, headers["compression"] = compress(body, compression)
    check_size(app.conf, name, body)
    priority = given.get("priority")
    sent = Message(
        id=headers["id"],
        task=name,
        queue=address.queue.name,
        headers=msgspec.json.encode(headers),
        body=body,
        content_type=encoded.content_type,
        content_encoding=encoded.content_encoding,
        priority=(app.conf.task_default_priority or 0) if priority is None else priority,
        eta=parse_moment(headers["eta"]) if headers["eta"] else None,
        expires=parse_moment(headers["expires"]) if headers["expires"] else None,
        reply_to=message.properties["reply_to"],
        correlation_id=message.properties["correlation_id"],
        exchange=address.exchange,
        routing_key=address.routing_key,
        delivery_mode=address.delivery_mode,
    )
    app.publish([sent], given.get("timeout"))
