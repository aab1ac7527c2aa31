"""Large parts of a canvas are stored once and referred to by id, instead of travelling in every message before them.

The reference is a signature itself, so that it may stand wherever one does. In a mixed fleet everything travels,
because Celery's workers do not know references.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, cast

from umbel.canvas.checking import exceeds
from umbel.errors import InvalidTaskError
from umbel.message import new_id
from umbel.sending import plain

if TYPE_CHECKING:
    from umbel.app import Umbel

REFERENCE = "umbel.stored"
LINKS = 16
"""Links of a chain that travel in a message, and that are stored together."""

BODY = 16
"""Single tasks of a chord's body that travel in the message of every member."""


def _storable(app: Umbel) -> bool:
    features = app.backend.features
    return not app.conf.mixed_fleet and features.groups and not features.knows_nothing


def _store(app: Umbel, value: Any) -> dict[str, Any]:
    document = new_id()
    app.backend.save_group(document, {"stored": value})
    return {
        "task": REFERENCE,
        "args": [],
        "kwargs": {"document": document},
        "options": {},
        "subtask_type": None,
        "immutable": True,
    }


def shortened(app: Umbel, following: Sequence[Any]) -> list[Any]:
    """The rest of a chain, last link first, as it travels: at most so many links, and where the others are."""
    calls = list(following)
    if len(calls) <= 2 * LINKS or not _storable(app):
        return calls
    reference: dict[str, Any] | None = None
    start = 0
    while len(calls) - start > LINKS:
        part = [plain(call) for call in calls[start : start + LINKS]]
        reference = _store(app, part if reference is None else [reference, *part])
        start += LINKS
    return [cast("Any", reference), *calls[start:]]


def reference_to_body(app: Umbel, body: dict[str, Any]) -> dict[str, Any]:
    """A chord's body as it travels in the messages of its members."""
    if not exceeds(body, BODY) or not _storable(app):
        return body
    made = _store(app, body)
    made["options"] = {name: value for name, value in body["options"].items() if name in ("task_id", "group_id")}
    made["chord_size"] = body.get("chord_size")
    return made


def is_reference(call: Any) -> bool:
    return isinstance(call, Mapping) and cast("Mapping[str, Any]", call).get("task") == REFERENCE


def resolved(app: Umbel, call: Any) -> Any:
    """What a reference refers to; anything else as it is. Raises InvalidTaskError when it is not stored any more."""
    if not is_reference(call):
        return call
    document = call["kwargs"]["document"]
    found = app.backend.restore_group(document)
    if not isinstance(found, dict) or "stored" not in found:
        raise InvalidTaskError(f"the rest of a canvas is not stored any more: {document}; see result_expires")
    return cast("dict[str, Any]", found)["stored"]


def next_link(app: Umbel, following: Sequence[Any]) -> tuple[Any, list[Any]]:
    """The next link of a chain and the rest, last link first."""
    *rest, link = following
    while is_reference(link):
        *rest, link = [*rest, *resolved(app, link)]
    return link, rest


def all_links(app: Umbel, following: Sequence[Any]) -> list[Any]:
    """All links of the rest of a chain, last first."""
    found = list(following)
    while found and is_reference(found[0]):
        found = [*resolved(app, found[0]), *found[1:]]
    return found
