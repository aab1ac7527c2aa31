"""Messages of calls that are alike: what they share is made once, by ``prepare``.

Programs send the same task with the same options again and again, and a group of thousands is mostly one call with
other arguments. A message is prepared with marks in the places of what differs (id, root and parent, arguments, place
in the group); the others are that message with something in these places.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import msgspec

from umbel.codecs import dumps, serializer
from umbel.codecs.representation import safe_repr
from umbel.message import Message, new_id, origin
from umbel.sending import NO_KWARGS, check_arguments, check_size, prepare, sending_task
from umbel.signals import before_task_publish

if TYPE_CHECKING:
    from umbel.app import Umbel
    from umbel.task import Task

SINGLE = frozenset({"task_id", "correlation_id", "root_id", "parent_id", "argsrepr", "kwargsrepr", "shadow"})
"""Options that belong to one call."""

_LASTING = frozenset(
    {
        *("queue", "exchange", "routing_key", "delivery_mode", "priority", "serializer", "ignore_result"),
        *("time_limit", "soft_time_limit", "add_to_parent", "retry", "timeout"),
    }
)
"""Options that say the same whenever a call is made."""
_PLAIN = frozenset({str, int, float, bool, type(None)})
"""Types of values that a template is found by again."""
_MOST = 1000

_NO_ARGUMENTS = b"[[],{}"
_written = msgspec.json.Encoder().encode


class Template:
    """Messages of calls that differ in id, arguments, place in their group, the task that sends them and address for
    the answer only; made by ``template_of``."""

    def __init__(self, app: Umbel, sample: Message, places: Sequence[bytes], grouped: bool) -> None:
        """``places``: what stands in the headers for id, place in the group (if there is one), root, parent,
        arguments and keywords."""
        self._levels: int = app.conf.task_repr_maxlevels
        self._conf = app.conf
        self._sample = sample
        self._embed = sample.body[len(_NO_ARGUMENTS) :]
        self._bare = sample.body, b'"()"', b'"{}"'
        parts: list[bytes] = []
        rest = sample.headers
        for place in places:
            before, rest = rest.split(place, 1)
            parts.append(before)
        if not grouped:
            parts.insert(1, b"")
        self._grouped = grouped
        self._to_id, self._to_index, self._to_root, self._to_parent, self._to_args, self._to_kwargs = parts
        self._rest = rest

    @property
    def is_timed(self) -> bool:
        """Whether its messages name a moment, so that they cannot be made later."""
        return self._sample.eta is not None or self._sample.expires is not None

    def message(
        self, args: Sequence[Any], kwargs: Mapping[str, Any], task_id: str, index: int, reply_to: str | None
    ) -> Message:
        """One of them. Raises EncodeError, MessageTooLarge."""
        sample = self._sample
        body, shown, named = self._bare if args == () and not kwargs else self._with(args, kwargs)
        own = root = _written(task_id)
        above = b"null"
        parent = sending_task()
        if parent is not None:
            root, above = _written(parent.root_id or parent.id), _written(parent.id)
        headers = (
            *(self._to_id, own, self._to_index, b"%d" % index if self._grouped else b"", self._to_root, root),
            *(self._to_parent, above, self._to_args, shown, self._to_kwargs, named, self._rest),
        )
        return Message(
            id=task_id,
            task=sample.task,
            queue=sample.queue,
            headers=b"".join(headers),
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

    def _with(self, args: Sequence[Any], kwargs: Mapping[str, Any]) -> tuple[bytes, bytes, bytes]:
        """The body with these arguments, and how they are shown."""
        body = dumps((args, kwargs), "json").body[:-1] + self._embed
        check_size(self._conf, self._sample.task, body)
        levels = self._levels
        shown = _written(safe_repr(args, 1024, levels))
        return body, shown, _written(safe_repr(kwargs, 1024, levels)) if kwargs else b'"{}"'


def template_of(
    app: Umbel, name: str, options: Mapping[str, Any], task: Task[..., Any] | None, *, grouped: bool
) -> Template | None:
    """The template of calls of a task with these options, none of which is in ``SINGLE``; in a group if ``grouped``.

    None where each message must be prepared by itself: with middlewares, receivers of ``before_task_publish``, routes
    by function, serializers other than JSON, compression, headers that replace those of the protocol. Raises what
    ``prepare`` raises.
    """
    if app.middleware.publishing is not None or before_task_publish.receivers or not app.routes.router.static:
        return None
    names = (*(("group_index",) if grouped else ()), "root_id", "parent_id", "argsrepr", "kwargsrepr")
    marks = {name: new_id() for name in names}
    sample = prepare(app, name, (), {}, {**options, **marks}, task)
    headers = sample.headers
    if sample.content_type != "application/json" or not sample.body.startswith(_NO_ARGUMENTS):
        return None
    places = [_written(mark) for mark in (sample.id, *marks.values())]
    found = [headers.find(place) for place in places]
    if -1 in found or found != sorted(found):
        return None
    return Template(app, sample, places, grouped)


class Templates:
    """Makes the messages of an application's calls: by a template where the task is called with these options again
    and again, by ``prepare`` otherwise."""

    def __init__(self, app: Umbel) -> None:
        self._app = app
        self._known: dict[Any, tuple[Any, Template | None]] = {}

    def message(
        self,
        name: str,
        args: Sequence[Any] | None,
        kwargs: Mapping[str, Any] | None,
        options: Mapping[str, Any],
        task: Task[..., Any] | None = None,
    ) -> Message:
        """As ``prepare``."""
        template = self._find(name, options, task)
        if template is None:
            return prepare(self._app, name, args, kwargs, options, task)
        args = () if args is None else args
        kwargs = NO_KWARGS if kwargs is None else kwargs
        check_arguments(args, kwargs)
        return template.message(args, kwargs, new_id(), 0, self._app.reply_address())

    def _find(self, name: str, options: Mapping[str, Any], task: Task[..., Any] | None) -> Template | None:
        app = self._app
        if app.middleware.publishing is not None or before_task_publish.receivers:
            return None
        key: tuple[Any, ...] = (name, task is None)
        if options:
            types = tuple(map(type, options.values()))
            if not (_LASTING.issuperset(options) and _PLAIN.issuperset(types)):
                return None
            key = (*key, *options.items(), *types)
        # all that a message hangs on besides the call itself
        defaults = task.send_defaults() if task is not None else None
        state = (app.conf.edition, app.routes.edition, origin(), defaults, serializer("json"))
        known = self._known.get(key)
        if known is None or known[0] != state:
            if len(self._known) >= _MOST:
                self._known.clear()
            known = self._known[key] = state, self._made(name, options, task)
        return known[1]

    def _made(self, name: str, options: Mapping[str, Any], task: Task[..., Any] | None) -> Template | None:
        if self._app.conf.task_inherit_parent_priority:
            return None
        template = template_of(self._app, name, options, task, grouped=False)
        return None if template is None or template.is_timed else template
