"""A running task that puts others in its place, or beside it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, cast

from umbel.canvas.base import Canvas
from umbel.canvas.chain import chain
from umbel.canvas.checking import call_of, check, check_member, inner
from umbel.canvas.chord import chord
from umbel.canvas.group import group, simplified
from umbel.canvas.members import is_counted
from umbel.canvas.signature import Signature
from umbel.canvas.stamping import NAMES, with_shared
from umbel.errors import InvalidCanvas, Replaced

if TYPE_CHECKING:
    from umbel.task import Task


def replace(task: Task[..., Any], sig: Any) -> Any:
    """What ``Task.replace`` does, up to ``Task.on_replace``."""
    request, app = task.request, task.app
    if request.called_directly:
        raise InvalidCanvas(f"{task.name} was called directly: there is no task that could be replaced")
    call = simplified(call_of(sig, "replacement", app).clone())
    if isinstance(call, group):
        call = chord(cast("group", call), app.signature("celery.accumulate", kwargs={"index": 0}), app=app)
    check(app, call)
    for callback in request.callbacks or ():
        call.link(callback)
    for errback in request.errbacks or ():
        call.link_error(errback)
    _inherit_stamps(call, request.stamped_headers, request.stamps)
    if not request.is_eager:
        call.freeze(request.id, request.group, request.chord, request.root_id, None, request.group_index)
    return task.on_replace(call)


def _inherit_stamps(call: Signature, names: list[str] | None, stamps: Mapping[str, Any] | None) -> None:
    """The stamps of the replaced task go to all that takes its place, where it has none of the same name."""
    stamps = stamps or {}
    given = {name: stamps[name] for name in names or () if name in stamps}
    left: list[Any] = [call] if given else []
    while left:
        each = left.pop()
        if parts := inner(each):
            left += parts
        else:
            each["options"] = with_shared({NAMES: list(given), **given}, each["options"])


def send_replacement(task: Task[..., Any], call: Signature) -> Any:
    """What ``Task.on_replace`` does."""
    request, app = task.request, task.app
    if request.is_eager:
        request.replacement = call
        raise Replaced(f"replaced by {call!r}")
    options: dict[str, Any] = {
        "root_id": request.root_id,
        "parent_id": request.parent_id,
        "replaced_task_nesting": request.replaced_task_nesting + 1,
    }
    if request.chain:
        options["chain"] = request.chain
    if isinstance(call, Canvas):
        request.publish = (*request.publish, *call.emit(app, (), **_for_canvas(call, options)))
    else:
        request.publish = (*request.publish, *call.messages(app, (), add_to_parent=False, **options)[0])
    raise Replaced(f"replaced by {call!r}")


def _for_canvas(call: Signature, options: dict[str, Any]) -> dict[str, Any]:
    """What of ``options`` a canvas is sent with; its calls get the rest where they are first run."""
    first = {name: value for name, value in options.items() if name != "chain"}
    calls = call.tasks[:1] if isinstance(call, chain) else call.tasks if isinstance(call, chord) else []
    for each in calls:
        if each.subtask_type is None:
            each["options"] = {**first, **each.options}
    return {"chain": options["chain"]} if "chain" in options else {}


def add_to_chord(task: Task[..., Any], sig: Any, lazy: bool) -> Any:
    """What ``Task.add_to_chord`` does: member and message come with the acknowledgement of this one."""
    request, app = task.request, task.app
    if not request.chord or not request.group:
        raise InvalidCanvas(f"{task.name} is no member of a chord, so nothing can be added to it")
    call = call_of(sig, "chord", app).clone()
    if call.subtask_type is not None:
        raise InvalidCanvas("single tasks can be added to a chord, other canvases cannot")
    if not is_counted(app, request.chord):
        raise InvalidCanvas("nothing can be added to a chord that celery.chord_unlock waits for")
    check_member(app, call)
    body: dict[str, Any] = request.chord
    result = call.freeze(group_id=request.group, chord=body, root_id=request.root_id, group_index=request.group_index)
    request.added += 1
    request.publish = (*request.publish, *call.messages(app)[0])
    return call if lazy else result
