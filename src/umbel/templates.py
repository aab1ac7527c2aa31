"""Many messages of one task with the same options: what they share is made once, by ``prepare``.

A group of thousands is mostly one call again and again with other arguments. A message is prepared with marks in the
places of what differs (id, place in the group, arguments); the others are that message with something in these places.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import msgspec

from umbel.codecs import dumps
from umbel.codecs.representation import safe_repr
from umbel.message import Message, new_id
from umbel.sending import check_size, prepare
from umbel.signals import before_task_publish

if TYPE_CHECKING:
    from umbel.app import Umbel
    from umbel.task import Task

SINGLE = frozenset({"task_id", "correlation_id", "root_id", "parent_id", "argsrepr", "kwargsrepr", "shadow"})
"""Options that belong to one call."""

_NO_ARGUMENTS = b"[[],{}"
_written = msgspec.json.Encoder().encode


class Template:
    """Messages of calls that differ in id, arguments, place in their group and address for the answer only; made by
    ``template_of``."""

    def __init__(self, app: Umbel, sample: Message, index: str, args: str, kwargs: str) -> None:
        self._conf = app.conf
        self._levels: int = app.conf.task_repr_maxlevels
        self._sample = sample
        self._embed = sample.body[len(_NO_ARGUMENTS) :]
        known = _written(sample.id)
        self._to_id, rest = sample.headers.split(known, 1)
        self._to_index, rest = rest.split(_written(index), 1)
        self._has_root = known in rest
        self._to_root, rest = rest.split(known, 1) if self._has_root else (b"", rest)
        self._to_args, rest = rest.split(_written(args), 1)
        self._to_kwargs, self._rest = rest.split(_written(kwargs), 1)

    def message(
        self, args: Sequence[Any], kwargs: Mapping[str, Any], task_id: str, index: int, reply_to: str | None
    ) -> Message:
        """One of them. Raises EncodeError, MessageTooLarge."""
        sample, levels = self._sample, self._levels
        body = dumps((args, kwargs), "json").body[:-1] + self._embed
        check_size(self._conf, sample.task, body)
        known = _written(task_id)
        shown = _written(safe_repr(args, 1024, levels))
        named = _written(safe_repr(kwargs, 1024, levels)) if kwargs else b'"{}"'
        root = known if self._has_root else b""
        return Message(
            id=task_id,
            task=sample.task,
            queue=sample.queue,
            headers=b"".join(
                (
                    *(self._to_id, known, self._to_index, b"%d" % index, self._to_root, root),
                    *(self._to_args, shown, self._to_kwargs, named, self._rest),
                )
            ),
            body=body,
            content_type=sample.content_type,
            content_encoding=sample.content_encoding,
            priority=sample.priority,
            eta=sample.eta,
            expires=sample.expires,
            reply_to=reply_to or sample.reply_to,
            correlation_id=task_id,
            exchange=sample.exchange,
            routing_key=sample.routing_key,
            delivery_mode=sample.delivery_mode,
        )


def template_of(app: Umbel, name: str, options: Mapping[str, Any], task: Task[..., Any] | None) -> Template | None:
    """The template of calls of a task in a group with these options, none of which is in ``SINGLE``.

    None where each message must be prepared by itself: with middlewares, receivers of ``before_task_publish``, routes
    by function, serializers other than JSON, compression, headers that replace those of the protocol. Raises what
    ``prepare`` raises.
    """
    if app.middleware.publishing is not None or before_task_publish.receivers or not app.routes.router.static:
        return None
    index, args, kwargs = new_id(), new_id(), new_id()
    given = {**options, "group_index": index, "argsrepr": args, "kwargsrepr": kwargs}
    sample = prepare(app, name, (), {}, given, task)
    headers = sample.headers
    if sample.content_type != "application/json" or not sample.body.startswith(_NO_ARGUMENTS):
        return None
    places = [headers.find(_written(mark)) for mark in (sample.id, index, args, kwargs)]
    if -1 in places or places != sorted(places):
        return None
    return Template(app, sample, index, args, kwargs)
