"""Results of many tasks at once: :class:`ResultSet`, and :class:`GroupResult` for those that were sent as a group."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import TYPE_CHECKING, Any, cast

from umbel.backends.base import Meta
from umbel.current import get_current_app
from umbel.errors import TimeoutError
from umbel.joining import assert_will_not_block
from umbel.result import PROPAGATE_STATES, AsyncResult, EagerResult, result_from_tuple

if TYPE_CHECKING:
    from umbel.app import Umbel
    from umbel.backends.base import Backend


class _Stop(Exception):
    """A member failed; ends the waiting for the others."""


class ResultSet:
    """Some results, in order. Asking for all of them takes one round trip."""

    def __init__(self, results: Iterable[Any], app: Umbel | None = None) -> None:
        self.results: list[Any] = list(results)
        self._app = app

    @property
    def app(self) -> Umbel:
        return self._app or (self.results[0].app if self.results else get_current_app())

    @property
    def backend(self) -> Backend:
        return self.app.backend

    # -- waiting --

    def get(
        self,
        timeout: float | None = None,
        propagate: bool = True,
        interval: float = 0.5,
        callback: Callable[[str, Any], object] | None = None,
        no_ack: bool = True,
        on_message: Callable[[dict[str, Any]], object] | None = None,
        disable_sync_subtasks: bool = True,
        on_interval: Callable[[], object] | None = None,
    ) -> list[Any]:
        """Wait for all and return their values in order.

        ``timeout`` in seconds holds for all together. If ``propagate``, the first exception seen is raised at once;
        otherwise exceptions take their place in the list. ``interval`` and ``no_ack`` have no effect.
        Raises TimeoutError, WouldBlock inside a task.
        """
        if disable_sync_subtasks:
            assert_will_not_block()
        waiting = {leaf.id: leaf for leaf in self.leaves() if not leaf.ready_here()}

        def on_meta(meta: Meta) -> None:
            if on_message is not None:
                on_message({"task_id": meta.task_id, "status": meta.status, "result": meta.result})
            leaf = waiting.get(meta.task_id)
            if leaf is not None:
                leaf.remember(meta)
            if propagate and meta.status in PROPAGATE_STATES:
                raise _Stop

        if waiting:
            try:
                if not self.backend.wait(list(waiting), timeout, on_meta):
                    raise TimeoutError(f"{self.waiting_here()} of {len(self)} results are missing after {timeout} s")
            except _Stop:
                for leaf in waiting.values():
                    if leaf.ready_here():
                        leaf.maybe_throw()
        return [_value(result, propagate, callback) for result in self.results]

    join = join_native = get

    def leaves(self) -> Iterator[AsyncResult[Any]]:
        """The results of single tasks, those of nested groups too."""
        for result in self.results:
            if isinstance(result, ResultSet):
                yield from result.leaves()
            else:
                yield result

    def waiting_here(self) -> int:
        """How many results this object has not seen ready."""
        return sum(not leaf.ready_here() for leaf in self.leaves())

    def _load(self) -> list[AsyncResult[Any]]:
        leaves = list(self.leaves())
        missing = {leaf.id: leaf for leaf in leaves if not leaf.ready_here()}
        if missing:
            for task_id, meta in self.backend.get(list(missing)).items():
                missing[task_id].remember(meta)
        return leaves

    # -- state --

    def ready(self) -> bool:
        """Whether all have ended."""
        return all(leaf.ready_here() for leaf in self._load())

    def waiting(self) -> bool:
        """Whether any has not ended."""
        return not self.ready()

    def successful(self) -> bool:
        """Whether all have succeeded."""
        return all(leaf.state_here() == "SUCCESS" for leaf in self._load())

    def failed(self) -> bool:
        """Whether any has failed."""
        return any(leaf.state_here() == "FAILURE" for leaf in self._load())

    def completed_count(self) -> int:
        """How many have succeeded."""
        return sum(leaf.state_here() == "SUCCESS" for leaf in self._load())

    def maybe_throw(self, propagate: bool = True, callback: Callable[[str, Any], object] | None = None) -> None:
        """Raise the exception of the first failed one."""
        for leaf in self._load():
            leaf.maybe_throw(propagate, callback)

    maybe_reraise = maybe_throw

    def forget(self) -> None:
        """Remove all results from the backend."""
        leaves = list(self.leaves())
        for leaf in leaves:
            leaf.forget_here()
        self.backend.forget([leaf.id for leaf in leaves if not isinstance(leaf, EagerResult)])

    def revoke(
        self,
        connection: object = None,
        terminate: bool = False,
        signal: str | int | None = None,
        wait: bool = False,
        timeout: float | None = None,
    ) -> None:
        """See to it that none of the tasks is run any more. As ``AsyncResult.revoke``, for all in one."""
        leaves = list(self.leaves())
        for leaf in leaves:
            if isinstance(leaf, EagerResult):
                leaf.revoke()
        ids = [leaf.id for leaf in leaves if not isinstance(leaf, EagerResult)]
        self.app.control.revoke(ids, None, terminate, signal, wait=wait, timeout=timeout)

    # -- as a collection --

    def add(self, result: Any) -> None:
        if result not in self.results:
            self.results.append(result)

    def update(self, results: Iterable[Any]) -> None:
        for result in results:
            self.add(result)

    def remove(self, result: Any) -> None:
        """Raises KeyError when it is not in."""
        try:
            self.results.remove(result)
        except ValueError:
            raise KeyError(result) from None

    def discard(self, result: Any) -> None:
        if result in self.results:
            self.results.remove(result)

    def clear(self) -> None:
        self.results.clear()

    def __iter__(self) -> Iterator[Any]:
        return iter(self.results)

    def __len__(self) -> int:
        return len(self.results)

    def __getitem__(self, index: int) -> Any:
        return self.results[index]

    def __eq__(self, other: object) -> bool:
        return other.results == self.results if isinstance(other, ResultSet) else NotImplemented

    __hash__ = object.__hash__

    def __repr__(self) -> str:
        return f"<{type(self).__name__}: [{', '.join(str(result) for result in self.results)}]>"


class GroupResult(ResultSet):
    """The results of a group. ``save`` keeps which tasks belong to it, ``restore`` finds them again by its id."""

    def __init__(self, id: str, results: Iterable[Any] = (), parent: Any = None, app: Umbel | None = None) -> None:
        super().__init__(results, app)
        self.id = id
        self.parent = parent

    @property
    def children(self) -> list[Any]:
        return self.results

    def as_tuple(self) -> tuple[Any, Any]:
        parent = self.parent
        head = (self.id, parent.as_tuple() if parent is not None else None)
        return head, [result.as_tuple() for result in self.results]

    def save(self, backend: Backend | None = None) -> None:
        """Store which tasks belong to the group."""
        (backend or self.backend).save_group(self.id, {"result": self.as_tuple()})

    def delete(self, backend: Backend | None = None) -> None:
        """Remove what ``save`` stored."""
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

    def __eq__(self, other: object) -> bool:
        if isinstance(other, GroupResult):
            return other.id == self.id and other.results == self.results
        return NotImplemented

    def __hash__(self) -> int:
        return hash(self.id)


def _value(result: Any, propagate: bool, callback: Callable[[str, Any], object] | None) -> Any:
    if isinstance(result, ResultSet):
        return [_value(member, propagate, callback) for member in result.results]
    return result.maybe_throw(propagate, callback)
