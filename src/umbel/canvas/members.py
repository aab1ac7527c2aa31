"""What the end of a task means for the chords that it belongs to: the :class:`Part` that its settlement brings.

The part that makes a chord complete sends, in the same step, the message that finishes it (``builtin.finish_chord``):
a task that reads all parts and publishes the body. Every member has that message ready, so nobody polls and no
process is needed but the one that settles.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any, cast
from weakref import WeakKeyDictionary

from umbel.backends.base import Meta, Part, Result
from umbel.canvas.checking import singles
from umbel.canvas.storing import all_links, is_reference
from umbel.codecs import loads
from umbel.codecs.exceptions import encode_exception
from umbel.errors import UmbelError
from umbel.message import Message, decode_headers
from umbel.reading import body_parts
from umbel.sending import prepare

if TYPE_CHECKING:
    from umbel.app import Umbel
    from umbel.request import Request

FINISH = "umbel.chord"

_KEPT = 256
_finishing: WeakKeyDictionary[Umbel, dict[str, Message]] = WeakKeyDictionary()
"""Messages that finish chords, by chord: members that run in one process share one."""


def part_of(app: Umbel, request: Request, state: str, value: Any) -> tuple[Part, ...]:
    """The part of a task that has ended; none where the result store does not count them. Raises EncodeError."""
    if not request.group or not app.backend.features.chords:
        return ()
    return (
        _part(
            app,
            request.chord,
            request.group,
            request.group_index,
            request.id,
            state,
            value,
            request.root_id,
            request.added,
        ),
    )


def _part(
    app: Umbel,
    body: dict[str, Any],
    group: str,
    index: int | None,
    member: str,
    state: str,
    value: Any,
    root_id: str | None,
    added: int = 0,
) -> Part:
    backend = app.backend
    expires = app.conf.result_chord_expires
    return Part(
        chord=group,
        member=member,
        index=index or 0,
        payload=backend.encode_part(member, state, value),
        size=body.get("chord_size") or 0,
        added=added,
        expires=backend.options.expires if expires is None else float(expires),
        then=_finishing_message(app, body, group, member, root_id),
    )


def _finishing_message(app: Umbel, body: dict[str, Any], group: str, member: str, root_id: str | None) -> Message:
    """Shared by members where one settlement alone can send it; elsewhere the id tells whose it is."""
    known = _finishing.setdefault(app, {})
    message = known.get(group)
    if message is None:
        if not app.broker.stores_results_of(app.backend):
            return _finish(app, body, group, member, root_id)
        if len(known) >= _KEPT:
            known.clear()
        message = known[group] = _finish(app, body, group, member, root_id)
    return message


def _finish(app: Umbel, body: dict[str, Any], group: str, member: str, root_id: str | None) -> Message:
    first: Mapping[str, Any] = body["kwargs"] if is_reference(body) else next(singles(body), body)
    options: Mapping[str, Any] = first.get("options") or {}
    given = {name: options.get(name) for name in ("queue", "exchange", "routing_key", "priority")}
    given |= {"route_name": first.get("task"), "root_id": root_id, "parent_id": member, "serializer": "json"}
    try:
        return prepare(app, FINISH, (group, body), {}, given, app.tasks[FINISH])
    except UmbelError:
        return prepare(app, FINISH, (group, body), {}, {**given, "serializer": None}, app.tasks[FINISH])


def lost_parts(app: Umbel, message: Message, error: Exception) -> tuple[Part, ...]:
    """The parts of a task that ended without running to an end, by its message: killed, expired, revoked.

    Nothing where the message cannot be read: then nobody can tell what it belongs to.
    """
    if not app.backend.features.chords:
        return ()
    try:
        headers = decode_headers(message.headers)
        body = loads(
            message.body, message.content_type, message.content_encoding, app.accept(), headers.get("compression")
        )
        _, _, embed = body_parts(body)
    except UmbelError:
        return ()
    following, own = embed.get("chain"), embed.get("chord")
    if not following and not own:
        return ()
    plain = encode_exception(error, app.backend.options.serializer)
    root_id: str | None = headers.get("root_id")
    group: str | None = headers.get("group")
    found: list[Part] = []
    if own and group:
        index = cast("int | None", headers.get("group_index"))
        found.append(_part(app, own, group, index, message.id, "FAILURE", plain, root_id))
    if following:
        found += fallout(app, all_links(app, following), plain, "", app.date_done(), root_id)[1]
    return tuple(found)


def fallout(
    app: Umbel, calls: Iterable[Any], plain: Any, traceback: str, done: str, root_id: str | None
) -> tuple[list[Result], list[Part]]:
    """What is known of calls that will never run, because of an error (in its plain form) before them: their results,
    and their parts in chords."""
    backend = app.backend
    results: list[Result] = []
    parts: list[Part] = []
    for call in calls:
        for single in singles(call):
            options: dict[str, Any] = single.get("options") or {}
            task_id = cast("str | None", options.get("task_id"))
            if task_id is None:
                continue
            group = cast("str | None", options.get("group_id"))
            if not backend.features.knows_nothing:
                meta = Meta(
                    task_id=task_id,
                    status="FAILURE",
                    result=plain,
                    traceback=traceback,
                    date_done=done,
                    group_id=group,
                )
                results.append(backend.encode(meta, reply_to=options.get("reply_to") or "", correlation_id=task_id))
            if options.get("chord") and group and backend.features.chords:
                index = cast("int | None", options.get("group_index"))
                parts.append(_part(app, options["chord"], group, index, task_id, "FAILURE", plain, root_id))
    return results, parts
