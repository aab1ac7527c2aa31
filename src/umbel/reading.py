"""The body of a message decoded, and checked before its task runs: :func:`read_call`."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any, cast

from umbel.codecs import loads
from umbel.errors import InvalidTaskError
from umbel.message import PROTOCOL_2_EMPTY_EMBED, Message
from umbel.protocol1 import upgrade_protocol1
from umbel.request import Request, read_request

if TYPE_CHECKING:
    from umbel.app import Umbel
    from umbel.task import Task

_list, _dict = cast("tuple[Any, Any]", (list, dict))
"""For the types of decoded values, of whose content nothing is known."""


def read_call(app: Umbel, message: Message) -> tuple[Task[..., Any], Request, Any, Any]:
    """The task, request and arguments of a message.

    Raises ContentDisallowed before anything of the body is decoded, DecodeError, InvalidTaskError, NotRegistered.
    """
    accept = app.accept()
    if not message.task:
        message = upgrade_protocol1(message, accept)
    request = read_request(message)
    body = loads(message.body, message.content_type, message.content_encoding, accept, request.compression)
    args, kwargs, embed = body_parts(body)
    if embed and embed != PROTOCOL_2_EMPTY_EMBED:
        if any(embed.values()):
            _check_calls(embed)
        request.callbacks = embed.get("callbacks")
        request.errbacks = embed.get("errbacks")
        request.chain = embed.get("chain")
        request.chord = embed.get("chord")
    return app.tasks[message.task], request, args, kwargs


def body_parts(body: Any) -> tuple[Any, Any, dict[str, Any]]:
    """args, kwargs and embed of a decoded body; also of a body of protocol 1 under headers of protocol 2."""
    if type(body) is _list and len(body) == 3:
        args, kwargs, embed = body
        if type(args) is _list and type(kwargs) is _dict and type(embed) is _dict:
            return args, kwargs, embed
    return _unusual_parts(body)


def _unusual_parts(body: Any) -> tuple[Any, Any, dict[str, Any]]:
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
    chord = embed.get("chord")
    if chord is not None and not _are_calls((chord,)):
        raise InvalidTaskError("chord of a task message are not calls of tasks")
    for name in ("callbacks", "errbacks", "chain"):
        calls = embed.get(name)
        if calls is None:
            continue
        if not isinstance(calls, (list, tuple)) or not (name == "errbacks" or _are_calls(cast("list[Any]", calls))):
            raise InvalidTaskError(f"{name} of a task message are not calls of tasks")


def _are_calls(values: Iterable[Any]) -> bool:
    return all(isinstance(value, _dict) and isinstance(value.get("task"), str) for value in values)
