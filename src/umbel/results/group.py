"""The results of a group, which can be kept under its id."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any, cast

from umbel.current import get_current_app
from umbel.message import new_id
from umbel.results.many import M, ResultSet
from umbel.results.tuples import result_from_tuple, tuple_of

if TYPE_CHECKING:
    from umbel.app import Umbel
    from umbel.backends.base import Backend
    from umbel.results.single import AsyncResult


class GroupResult(ResultSet[M]):
    """The results of a group. ``save`` keeps which tasks belong to it, ``restore`` finds them again by its id.

    ``id``: a new one if none is given. ``parent``: the result of what came before the group in a chain.
    """

    __module__ = "umbel.result"

    id: str

    def __init__(
        self,
        id: str | None = None,
        results: Iterable[Any] | None = None,
        parent: AsyncResult[Any] | GroupResult | None = None,
        app: Umbel | None = None,
        ready_barrier: object = None,
    ) -> None:
        super().__init__(results or (), app)
        self.id = id or new_id()
        self.parent = parent

    @property
    def children(self) -> list[Any]:
        """The members."""
        return self.results

    def as_tuple(self) -> tuple[Any, Any]:
        """The form in which results travel: ``((id, parent), members)``."""
        return tuple_of(self)

    def save(self, backend: Backend | None = None) -> None:
        """Store which tasks belong to the group. Raises BackendError where the store cannot (``rpc://``)."""
        (backend or self.backend).save_group(self.id, {"result": self.as_tuple()})

    def delete(self, backend: Backend | None = None) -> None:
        """Remove what ``save`` stored; the results of the members stay."""
        (backend or self.backend).delete_group(self.id)

    @classmethod
    def restore(cls, id: str, backend: Backend | None = None, app: Umbel | None = None) -> GroupResult | None:
        """The group that was saved under ``id``, or None."""
        app = app or get_current_app()
        document = (backend or app.backend).restore_group(id)
        if document is None:
            return None
        stored = cast("Any", document)["result"] if isinstance(document, dict) else document
        return cast("GroupResult", result_from_tuple(stored, app))

    def __bool__(self) -> bool:
        return True

    def __eq__(self, other: object) -> bool:
        if isinstance(other, GroupResult):
            same = cast("GroupResult[Any]", other)
            return same.id == self.id and same.results == self.results and same.parent == self.parent
        return other == self.id if isinstance(other, str) else NotImplemented

    def __hash__(self) -> int:
        return hash(self.id)

    def __str__(self) -> str:
        return self.id

    def __repr__(self) -> str:
        return f"<GroupResult: {self.id} [{', '.join(str(result) for result in self.results)}]>"

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self.id, self.results, self.parent)
