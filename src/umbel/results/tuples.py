"""Results as plain data: the tuples in which they travel, and what pickles are made of."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, cast

from umbel.results.base import ResultBase

if TYPE_CHECKING:
    from umbel.app import Umbel
    from umbel.results.group import GroupResult
    from umbel.results.single import AsyncResult

_DEEPEST = 100
"""Parents that travel with a result: nobody can read what is nested deeper."""


def tuple_of(result: AsyncResult[Any] | GroupResult) -> tuple[Any, Any]:
    """``((id, parent), None)``, or ``((id, parent), members)`` of a group; see ``result_from_tuple``."""
    from umbel.results.group import GroupResult

    links: list[Any] = []
    above: AsyncResult[Any] | GroupResult | None = result
    while above is not None and len(links) < _DEEPEST:
        links.append(above)
        above = above.parent
    found: Any = None
    for each in reversed(links):
        members = [tuple_of(member) for member in each.results] if isinstance(each, GroupResult) else None
        found = (each.id, found), members
    return found


def result_from_tuple(r: Any, app: Umbel | None = None) -> AsyncResult[Any] | GroupResult:
    """The result that ``as_tuple`` or a stored ``children`` entry describes; a result is given back as it is."""
    from umbel.results.group import GroupResult
    from umbel.results.single import AsyncResult

    if isinstance(r, ResultBase):
        return cast("AsyncResult[Any] | GroupResult", r)
    links: list[tuple[str, Any]] = []
    rest: Any = r
    while rest:
        head, members = cast("tuple[Any, Any]", rest)
        result_id, rest = cast("tuple[str, Any]", head if isinstance(head, (list, tuple)) else (head, None))
        links.append((result_id, members))
    found: AsyncResult[Any] | GroupResult | None = None
    for result_id, members in reversed(links):
        if members is None:
            found = AsyncResult(result_id, app=app, parent=found)
        else:
            found = GroupResult(result_id, [result_from_tuple(each, app) for each in members], parent=found, app=app)
    if found is None:
        raise ValueError(f"not a result in plain form: {r!r}")
    return found


def links_of(result: AsyncResult[Any]) -> tuple[tuple[tuple[str, str | None], ...], Any]:
    """Ids and names of a result and the single ones before it, and what is before those: flat, for pickles."""
    from umbel.results.single import AsyncResult

    links: list[tuple[str, str | None]] = []
    above: Any = result
    while type(above) in (AsyncResult, type(result)):
        links.append((above.id, above.task_name))
        above = above.parent
    return tuple(links), above


def rebuilt(kind: type[AsyncResult[Any]], links: Sequence[tuple[str, str | None]], above: Any) -> AsyncResult[Any]:
    """The result that ``links_of`` describes, for pickles."""
    from umbel.results.single import AsyncResult

    for result_id, name in reversed(links[1:]):
        above = AsyncResult[Any](result_id, task_name=name, parent=above)
    result_id, name = links[0]
    return kind(result_id, task_name=name, parent=above)


rebuilt.__module__ = "umbel.result"
