"""What the end of a task means for the chords that it belongs to: the :class:`Part` that its settlement brings.

The part that makes a chord complete sends, in the same step, the message that finishes it (``builtin.finish_chord``):
a task that reads all parts and publishes the body. Every member has that message ready, so nobody polls and no
process is needed but the one that settles.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any, NamedTuple, cast
from weakref import WeakKeyDictionary

from umbel.backends.base import Meta, Part, Result
from umbel.canvas.checking import errbacks_of, several, singles
from umbel.canvas.signature import signature
from umbel.canvas.storing import all_links, is_reference, resolved
from umbel.codecs import loads
from umbel.codecs.exceptions import encode_exception
from umbel.errors import ChordError, UmbelError
from umbel.message import Message, decode_headers
from umbel.reading import body_parts
from umbel.routing import own_side
from umbel.sending import prepare

if TYPE_CHECKING:
    from umbel.app import Umbel
    from umbel.groups import GroupResult
    from umbel.request import Request

log = logging.getLogger("umbel.canvas")

FINISH = "umbel.chord"
UNLOCK = "celery.chord_unlock"

_KEPT = 256
_finishing: WeakKeyDictionary[Umbel, dict[str, Message]] = WeakKeyDictionary()
"""Messages that finish chords, by chord: members that run in one process share one."""


def part_of(app: Umbel, request: Request, state: str, value: Any) -> tuple[Part, ...]:
    """The part of a task that has ended; none where the result store does not count them. Raises EncodeError."""
    body, message = cast("dict[str, Any]", request.chord), request.message
    if not request.group or not is_counted(app, body):
        return ()
    queue = message.queue if message is not None else ""
    return (
        _part(
            app,
            body,
            request.group,
            request.group_index,
            request.id,
            state,
            value,
            request.root_id,
            queue,
            request.added,
        ),
    )


def is_counted(app: Umbel, body: Mapping[str, Any]) -> bool:
    """Whether the members of a chord are counted in the result store, and not waited for by ``celery.chord_unlock``:
    Celery's clients send that where their workers count nothing, without the size of the chord."""
    features = app.backend.features
    return features.chords and (features.counts_with_celery or bool(body.get("chord_size")))


def _part(
    app: Umbel,
    body: dict[str, Any],
    group: str,
    index: int | None,
    member: str,
    state: str,
    value: Any,
    root_id: str | None,
    queue: str,
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
        then=_finishing_message(app, body, group, member, root_id, queue),
    )


def _finishing_message(
    app: Umbel, body: dict[str, Any], group: str, member: str, root_id: str | None, queue: str
) -> Message:
    """Shared by members where one settlement alone can send it; elsewhere the id tells whose it is."""
    known = _finishing.setdefault(app, {})
    message = known.get(group)
    if message is None:
        if not app.broker.stores_results_of(app.backend):
            return _finish(app, body, group, member, root_id, queue)
        if len(known) >= _KEPT:
            known.clear()
        message = known[group] = _finish(app, body, group, member, root_id, queue)
    return message


def _finish(app: Umbel, body: dict[str, Any], group: str, member: str, root_id: str | None, queue: str) -> Message:
    """It goes where the body goes. In a mixed fleet to the own side of the queue of this member, since Celery's workers
    drop what they do not know."""
    given = _route(body)
    if app.conf.mixed_fleet:
        given = {"queue": own_side(app.conf, queue or app.conf.task_default_queue)}
    given |= {"root_id": root_id, "parent_id": member, "serializer": "json"}
    try:
        return prepare(app, FINISH, (group, body), {}, given, app.tasks[FINISH])
    except UmbelError:
        return prepare(app, FINISH, (group, body), {}, {**given, "serializer": None}, app.tasks[FINISH])


def _route(body: Mapping[str, Any]) -> dict[str, Any]:
    """Options with which another task goes where a body goes."""
    first: Mapping[str, Any] = body["kwargs"] if is_reference(body) else next(singles(body), body)
    options: Mapping[str, Any] = first.get("options") or {}
    given = {name: options.get(name) for name in ("queue", "exchange", "routing_key", "priority")}
    return {**given, "route_name": first.get("task")}


def unlocking_message(app: Umbel, header: GroupResult, body: dict[str, Any]) -> Message:
    """What Celery's clients send with a chord whose members nobody counts: a task that looks for their results again
    and again."""
    interval = app.conf.result_chord_retry_interval
    kwargs = {"interval": interval, "result": [result.as_tuple() for result in header.results]}
    return prepare(app, UNLOCK, (header.id, body), kwargs, {**_route(body), "countdown": interval}, app.tasks[UNLOCK])


class Lost(NamedTuple):
    """What the end of a task that did not run to an end means for others: ``parts`` for chords, ``results`` of the
    calls that will never run, and the error callbacks as data; ``failed`` is the id that they are called for, where it
    is not the task's own."""

    parts: tuple[Part, ...] = ()
    results: tuple[Result, ...] = ()
    errbacks: tuple[Any, ...] = ()
    failed: str = ""


def lost(app: Umbel, message: Message, error: Exception) -> Lost:
    """What it means that a task ended without an outcome of its own, by its message: killed, expired, revoked.

    Nothing where the message cannot be read: then nobody can tell what it belongs to.
    """
    try:
        headers = decode_headers(message.headers)
        compression = headers.get("compression")
        body = loads(message.body, message.content_type, message.content_encoding, app.accept(), compression)
        args, _, embed = body_parts(body)
        if message.task in (FINISH, UNLOCK):
            return _lost_chord(app, message, args, error, headers.get("root_id"))
        return _lost_call(app, message, headers, embed, error)
    except UmbelError as unread:
        log.warning("nobody is told of the end of a task that cannot be read: id=%s: %s", message.id, unread)
    except Exception:
        log.exception("nobody is told of the end of a task that is not well formed: id=%s", message.id)
    return Lost()


def _lost_call(
    app: Umbel, message: Message, headers: Mapping[str, Any], embed: Mapping[str, Any], error: Exception
) -> Lost:
    following, own, errbacks = embed.get("chain"), embed.get("chord"), tuple(several(embed.get("errbacks")))
    if not following and not own:
        return Lost(errbacks=errbacks)
    plain = encode_exception(error, app.backend.options.serializer)
    root_id: str | None = headers.get("root_id")
    group: str | None = headers.get("group")
    parts: list[Part] = []
    results: list[Result] = []
    if own and group and is_counted(app, own):
        index = cast("int | None", headers.get("group_index"))
        parts.append(_part(app, own, group, index, message.id, "FAILURE", plain, root_id, message.queue))
    if following:
        try:
            links = all_links(app, following)
        except UmbelError as gone:
            log.warning("who waits for the rest of a chain is not told of its end: id=%s: %s", message.id, gone)
        else:
            results, more = fallout(app, links, plain, "", app.date_done(), root_id, message.queue)
            parts += more
    return Lost(tuple(parts), tuple(results), errbacks)


def _lost_chord(app: Umbel, message: Message, args: Any, error: Exception, root_id: str | None) -> Lost:
    """The message that finishes a chord is lost itself: its body fails."""
    body = resolved(app, args[1])
    plain = encode_exception(ChordError(f"the chord could not be finished: {error}"), app.backend.options.serializer)
    results, parts = fallout(app, [body], plain, "", app.date_done(), root_id, message.queue)
    failed = signature(body, app=app).frozen_id or ""
    return Lost(tuple(parts), tuple(results), tuple(errbacks_of(body)), failed)


def fallout(
    app: Umbel, calls: Iterable[Any], plain: Any, traceback: str, done: str, root_id: str | None, queue: str
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
            chord = options.get("chord")
            if chord and group and is_counted(app, chord):
                index = cast("int | None", options.get("group_index"))
                parts.append(_part(app, chord, group, index, task_id, "FAILURE", plain, root_id, queue))
    return results, parts
