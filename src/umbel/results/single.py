"""The result of one task that was sent."""

from __future__ import annotations

import bisect
import builtins
import weakref
from collections.abc import Callable, Generator, Iterator, Mapping
from typing import TYPE_CHECKING, Any, Generic, Literal, TypeVar, cast

from umbel.backends.base import READY_STATES, Meta
from umbel.errors import TimeoutError
from umbel.joining import assert_will_not_block
from umbel.results.bars import open_bar, show_task
from umbel.results.base import PROPAGATE_STATES, OnInterval, OnMessage, OnValue, described
from umbel.results.graph import DependencyGraph, GraphFormatter, descend, graph_of
from umbel.results.promises import Promise
from umbel.results.removing import forget
from umbel.results.stored import StoredResult
from umbel.results.tuples import links_of, rebuilt, result_from_tuple, tuple_of
from umbel.results.waiting import wait_for

if TYPE_CHECKING:
    from umbel.brokers.base import Place
    from umbel.results.group import GroupResult

R = TypeVar("R")


class AsyncResult(StoredResult, Generic[R]):
    """The result of a task that was sent, by its id.

    Nothing is asked of the result backend before a method or property needs it; what a ready task brought is kept.
    Everything raises NoBackend where no result backend is configured. Results are equal when their ids are, and to
    their id.
    """

    __module__ = "umbel.result"

    TimeoutError = TimeoutError

    def leaves(self) -> Iterator[AsyncResult[Any]]:
        yield self

    # -- waiting --

    def get(
        self,
        timeout: float | None = None,
        propagate: bool = True,
        interval: float = 0.5,
        no_ack: bool = True,
        follow_parents: bool = True,
        callback: OnValue | None = None,
        on_message: OnMessage | None = None,
        on_interval: OnInterval | None = None,
        disable_sync_subtasks: bool = True,
        *,
        progress: bool = False,
    ) -> R:
        """Wait for the return value.

        ``timeout``: seconds, None waits for ever. ``propagate``: raise the task's exception, otherwise return it.
        ``interval``: seconds between calls of ``on_interval`` and looks at parents (``follow_parents``: raise the
        exception of a failed one); results themselves are pushed. ``callback(id, value)`` is called at the end,
        ``on_message(meta)`` at each change of state. ``disable_sync_subtasks``: refuse to wait inside a task.
        ``progress``: show a bar on the terminal. ``no_ack`` has no effect.
        Raises TimeoutError, the task's exception, WouldBlock inside a task.
        """
        if self.ignored:
            return cast(R, None)
        if disable_sync_subtasks:
            assert_will_not_block()
        if self._meta is None:
            parents = list(self._links_before())[::-1] if follow_parents and propagate else []
            self._wait(timeout, interval, parents, on_message, on_interval, progress)
        return cast(R, self.maybe_throw(propagate, callback))

    wait = get

    def _wait(
        self,
        timeout: float | None,
        interval: float,
        parents: list[AsyncResult[Any]],
        on_message: OnMessage | None,
        on_interval: OnInterval | None,
        progress: bool,
    ) -> None:
        def between() -> None:
            # links end one after the other: a few looks find where it has got to
            ended = bisect.bisect_left(parents, True, key=lambda parent: not parent.ready())
            if ended:
                parents[ended - 1].maybe_throw()
                del parents[:ended]
            if on_interval is not None:
                on_interval()

        with open_bar(progress, self.task_name or self.id) as bar:

            def on_meta(meta: Meta) -> None:
                if progress:
                    show_task(bar, meta)
                if on_message is not None:
                    on_message(described(meta))
                self.remember(meta)

            ticks = between if parents or on_interval is not None else None
            if not wait_for(self.backend, self._missing, timeout, on_meta, interval, ticks):
                raise TimeoutError(f"no result of task {self.id} within {timeout} s")

    def _missing(self) -> list[str]:
        return [self.id] if self._meta is None else []

    async def aget(self, timeout: float | None = None, propagate: bool = True) -> R:
        """As ``get``, without blocking the event loop."""
        import asyncio

        if self.ignored:
            return cast(R, None)
        if self._meta is None:
            loop = asyncio.get_running_loop()
            ready: asyncio.Future[None] = loop.create_future()

            def wake() -> None:
                if not ready.done():
                    ready.set_result(None)

            def on_meta(meta: Meta) -> None:
                self.remember(meta)
                loop.call_soon_threadsafe(wake)

            unsubscribe = await asyncio.to_thread(self.backend.subscribe, self.id, on_meta)
            try:
                async with asyncio.timeout(timeout):
                    await ready
            except builtins.TimeoutError as error:
                raise TimeoutError(f"no result of task {self.id} within {timeout} s") from error
            finally:
                unsubscribe()
        return cast(R, self.maybe_throw(propagate))

    def __await__(self) -> Generator[Any, None, R]:
        return self.aget().__await__()

    def then(
        self,
        callback: Callable[[AsyncResult[R]], Any],
        on_error: Callable[[BaseException], object] | None = None,
        weak: bool = False,
    ) -> Promise:
        """Have ``callback(result)`` called when the task has ended, well or not: here and now if it is known to have.

        Otherwise it is called from a thread of the result store. What it raises goes to ``on_error(exception)``, else
        to the log. ``weak``: only as long as somebody holds this result. The promise can be cancelled.
        """
        promise = Promise(callback, on_error)
        if self._meta is not None:
            promise(self)
            return promise
        held: Callable[[], AsyncResult[R] | None] = weakref.ref(self) if weak else lambda: self

        def on_meta(meta: Meta) -> None:
            found = held()
            if found is not None:
                found.remember(meta)
                promise(found)

        promise.when_cancelled(self.backend.subscribe(self.id, on_meta))
        return promise

    def _links_before(self) -> Iterator[AsyncResult[Any]]:
        """The parents up to a group: what fails in a chord's header comes as the body's ChordError."""
        parent = self.parent
        while isinstance(parent, AsyncResult):
            yield parent
            parent = parent.parent

    def whereabouts(self) -> Place | Literal["ended", "begun", "unknown"]:
        """Where the task is, by result store and broker: what PENDING leaves open.

        ``ready``, ``delayed``: it waits in its queue. ``held``: a worker has it. ``parked``: no worker that saw it
        knows it. ``dead``: it is in the dead-letter queue. ``ended``: ``get`` does not wait. ``begun``: the store has
        a state of it, and no message is left: it runs with ``acks_late=False``. ``unknown``: never sent, purged, or
        ended without a result that is still kept.

        For people and tests, not for loops: the broker looks through all that it has. Raises BrokerError where it
        cannot (RabbitMQ).
        """
        if self._told_by_store() == "ended":
            return "ended"
        return self.app.broker.locate(self.id) or self._told_by_store()

    def _told_by_store(self) -> Literal["ended", "begun", "unknown"]:
        if self.backend.features.knows_nothing:
            return "unknown"
        state = self.state
        return "ended" if state in READY_STATES else "unknown" if state == "PENDING" else "begun"

    # -- errors --

    def maybe_throw(self, propagate: bool = True, callback: OnValue | None = None) -> Any:
        """The value as it stands now; raises the exception of a failed or revoked task if ``propagate``."""
        meta = self._look()
        value = self._value(meta)
        if propagate and meta.status in PROPAGATE_STATES:
            raise value
        if callback is not None:
            callback(self.id, value)
        return value

    maybe_reraise = maybe_throw

    def throw(self, exc: BaseException | None = None, *args: Any, **kwargs: Any) -> None:
        """Raise ``exc``, or without it the exception of the task if it has one. Further arguments have no effect."""
        if exc is not None:
            raise exc
        self.maybe_throw()

    # -- what it has sent --

    @property
    def children(self) -> list[AsyncResult[Any] | GroupResult] | None:
        """Results of the tasks that this one has sent; None while unknown."""
        stored = self._look().children
        return [result_from_tuple(item, self._app) for item in stored] if stored is not None else None

    def iterdeps(self, intermediate: bool = False) -> Iterator[tuple[Any, Any]]:
        """``(parent, result)`` of this task and all that were sent by it, by those, and so on; level by level.

        Raises IncompleteStream at one that has not ended, unless ``intermediate``.
        """
        return descend(self, intermediate)

    def collect(self, intermediate: bool = False, **kwargs: Any) -> Iterator[tuple[Any, Any]]:
        """``(result, value)`` of this task and all below, as ``iterdeps``; ``kwargs`` as of ``get``."""
        for _, found in self.iterdeps(intermediate):
            yield found, found.get(**kwargs)

    def get_leaf(self) -> Any:
        """The value of the last result of ``iterdeps``: what a task that hands on its work ends in."""
        value: Any = None
        for _, found in self.iterdeps():
            value = found.get()
        return value

    def build_graph(self, intermediate: bool = False, formatter: GraphFormatter | None = None) -> DependencyGraph:
        """This task and all below as a graph; ``formatter`` is for ``to_dot``. Raises IncompleteStream."""
        return graph_of(self, intermediate, formatter)

    @property
    def graph(self) -> DependencyGraph:
        """``build_graph()``, made anew each time."""
        return self.build_graph()

    # -- the rest --

    def forget(self) -> None:
        """Remove this result and those of its parents from the backend, and what is remembered of them here."""
        forget(self.backend, [self])

    def _ids_to_revoke(self) -> str:
        return self.id

    def revoke_by_stamped_headers(
        self,
        headers: Mapping[str, Any],
        connection: object = None,
        terminate: bool = False,
        signal: str | int | None = None,
        wait: bool = False,
        timeout: float | None = None,
    ) -> None:
        """Revoke all tasks that carry one of these stamps, this one or not: ``app.control.revoke_by_stamped_headers``.

        ``headers``: a value, or a list of them, for each stamp. ``terminate`` and ``signal`` as of ``revoke``;
        ``connection``, ``wait`` and ``timeout`` have no effect.
        """
        self.app.control.revoke_by_stamped_headers(headers, terminate=terminate, signal=signal)

    def as_tuple(self) -> tuple[Any, Any]:
        """The form in which results travel: ``((id, parent), None)``.

        Of a long chain only the nearest parents: nobody can read what is nested deeper.
        """
        return tuple_of(self)

    def as_list(self) -> list[str]:
        """The ids of this result and its parents."""
        found: list[str] = []
        above: AsyncResult[Any] | GroupResult | None = self
        while above is not None:
            found.append(above.id)
            above = above.parent
        return found

    def __eq__(self, other: object) -> bool:
        if isinstance(other, AsyncResult):
            return other.id == self.id
        return other == self.id if isinstance(other, str) else NotImplemented

    def __hash__(self) -> int:
        return hash(self.id)

    def __str__(self) -> str:
        return self.id

    def __repr__(self) -> str:
        return f"<{type(self).__name__}: {self.id}>"

    def __copy__(self) -> AsyncResult[R]:
        return type(self)(self.id, self._backend, self.task_name, self._app, self.parent)

    def __reduce__(self) -> tuple[Any, ...]:
        links, above = links_of(self)
        return rebuilt, (type(self), links, above)
