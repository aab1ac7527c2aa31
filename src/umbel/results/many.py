"""Results of many tasks at once."""

from __future__ import annotations

import builtins
import contextlib
from collections.abc import AsyncGenerator, Callable, Generator, Iterable, Iterator
from typing import TYPE_CHECKING, Any, Generic, cast

from umbel.backends.base import Meta
from umbel.current import get_current_app
from umbel.errors import TimeoutError
from umbel.joining import assert_will_not_block
from umbel.results.arrivals import Arrivals, aas_they_end, as_they_end, load, subscribe_to
from umbel.results.bars import open_bar
from umbel.results.base import PROPAGATE_STATES, OnInterval, OnMessage, OnValue, ResultBase, described
from umbel.results.eager import EagerResult
from umbel.results.promises import Promise
from umbel.results.removing import forget
from umbel.results.single import AsyncResult
from umbel.results.waiting import wait_for

if TYPE_CHECKING:
    from typing_extensions import TypeVar

    from umbel.app import Umbel
    from umbel.backends.base import Backend

    M = TypeVar("M", default=Any)
else:
    from typing import TypeVar

    M = TypeVar("M")


class ResultSet(ResultBase, Generic[M]):
    """Some results, in order; ``ResultSet[int]`` where all are of tasks that return one.

    Asking for all of them takes one round trip, waiting for all of them one subscription. ``for`` gives the results in
    order, ``async for`` those that have ended as they end, ``await`` the list of values.
    """

    __module__ = "umbel.result"

    results: list[Any]
    """The results, in order."""

    def __init__(self, results: Iterable[Any], app: Umbel | None = None, ready_barrier: object = None) -> None:
        """``ready_barrier`` has no effect; see ``then``."""
        self.results = list(results)
        self._app = app

    @property
    def app(self) -> Umbel:
        return self._app or (self.results[0].app if self.results else get_current_app())

    @property
    def backend(self) -> Backend:
        """Where the results are stored."""
        return self.app.backend

    @property
    def supports_native_join(self) -> bool:
        """Whether all can be waited for at once: everywhere where results are stored."""
        return bool(self.results) and self.results[0].supports_native_join

    def leaves(self) -> Iterator[AsyncResult[Any]]:
        """The results of single tasks, those of nested groups too."""
        for result in self.results:
            yield from result.leaves()

    # -- waiting --

    def get(
        self,
        timeout: float | None = None,
        propagate: bool = True,
        interval: float = 0.5,
        callback: OnValue | None = None,
        no_ack: bool = True,
        on_message: OnMessage | None = None,
        disable_sync_subtasks: bool = True,
        on_interval: OnInterval | None = None,
        *,
        progress: bool = False,
    ) -> list[M]:
        """Wait for all and return their values in order.

        ``timeout`` in seconds holds for all together. If ``propagate``, the first exception seen is raised at once;
        otherwise exceptions take their place in the list. With ``callback(id, value)``, which is called for each
        member as it ends (for a nested group with the list of its values), the list is empty. ``on_message(meta)`` is
        called at each change of state, ``on_interval()`` every ``interval`` seconds. ``progress``: show a bar on the
        terminal. ``no_ack`` has no effect. Raises TimeoutError, WouldBlock inside a task.
        """
        if disable_sync_subtasks:
            assert_will_not_block()
        arrivals = Arrivals(self.results)
        total = sum(1 for _ in self.leaves()) if progress else 0
        failures = 0

        def deliver(ended: Iterable[Any]) -> None:
            if callback is not None:
                for member in ended:
                    callback(member.id, _value(member, propagate))

        if propagate:
            self._throw_here()
        with open_bar(progress, f"{total:,} tasks") as bar:

            def on_meta(meta: Meta) -> None:
                nonlocal failures
                if on_message is not None:
                    on_message(described(meta))
                leaves = arrivals.of(meta) if propagate and meta.status in PROPAGATE_STATES else ()
                deliver(arrivals.note(meta))
                if progress and meta.ready:
                    failures += meta.status in PROPAGATE_STATES
                    bar.show(total - len(arrivals), total, f"{failures:,} failed" if failures else "")
                for leaf in leaves:
                    leaf.maybe_throw()

            if progress:
                bar.show(total - len(arrivals), total, "")
            deliver(arrivals.ended)
            if arrivals and not wait_for(self.backend, arrivals.missing, timeout, on_meta, interval, on_interval):
                raise TimeoutError(f"{len(arrivals)} of {len(self)} results are missing after {timeout} s")
        return [] if callback is not None else [_value(member, propagate) for member in self.results]

    join = get

    def join_native(
        self,
        timeout: float | None = None,
        propagate: bool = True,
        interval: float = 0.5,
        callback: OnValue | None = None,
        no_ack: bool = True,
        on_message: OnMessage | None = None,
        on_interval: OnInterval | None = None,
        disable_sync_subtasks: bool = True,
        *,
        progress: bool = False,
    ) -> list[M]:
        """As ``get``; the last two parameters are in Celery's other order."""
        return self.get(
            timeout, propagate, interval, callback, no_ack, on_message, disable_sync_subtasks, on_interval,
            progress=progress,
        )  # fmt: skip

    def iter_native(
        self,
        timeout: float | None = None,
        interval: float = 0.5,
        no_ack: bool = True,
        on_message: OnMessage | None = None,
        on_interval: OnInterval | None = None,
    ) -> Iterator[tuple[str, Any]]:
        """``(id, meta)`` of each member as it ends; for a nested group its id and the list of its results.

        ``meta`` has the keys of Celery's result document (``status``, ``result``, ``traceback``, …). ``timeout`` in
        seconds holds for all together: raises TimeoutError. ``no_ack`` has no effect.
        """
        for member in as_they_end(self.results, lambda: self.backend, timeout, interval, on_message, on_interval):
            yield member.id, member.results if isinstance(member, ResultSet) else member.described_here()

    def iterate(self, timeout: float | None = None, propagate: bool = True, interval: float = 0.5) -> Iterator[M]:
        """The values as they come. Raises the exception of a failed one if ``propagate``, TimeoutError."""
        for member in as_they_end(self.results, lambda: self.backend, timeout, interval, None, None):
            yield _value(member, propagate)

    async def aget(self, timeout: float | None = None, propagate: bool = True) -> list[M]:
        """As ``get``, without blocking the event loop."""
        import asyncio

        failed: AsyncResult[Any] | None = None
        try:
            async with asyncio.timeout(timeout), contextlib.aclosing(self._as_leaves_end()) as ended:
                async for leaf in ended:
                    if propagate and leaf.state_here() in PROPAGATE_STATES:
                        failed = leaf
                        break
        except builtins.TimeoutError as error:
            raise TimeoutError(f"{self.waiting_here()} of {len(self)} results are missing after {timeout} s") from error
        if failed is not None:
            failed.maybe_throw()
        return [_value(member, propagate) for member in self.results]

    def _as_leaves_end(self) -> AsyncGenerator[AsyncResult[Any]]:
        return aas_they_end(self.leaves(), lambda: self.backend)

    def __await__(self) -> Generator[Any, None, list[M]]:
        return self.aget().__await__()

    def __aiter__(self) -> AsyncGenerator[AsyncResult[M]]:
        """The members in the order in which they end; ``await`` of one gives its value at once, or raises."""
        return aas_they_end(self.results, lambda: self.backend)

    def then(
        self,
        callback: Callable[[ResultSet[M]], Any],
        on_error: Callable[[BaseException], object] | None = None,
        weak: bool = False,
    ) -> Promise:
        """Have ``callback(self)`` called when all have ended, well or not. See ``AsyncResult.then``.

        ``weak`` has no effect.
        """
        promise = Promise(callback, on_error)
        arrivals = Arrivals(self.results)
        if not arrivals:
            promise(self)
            return promise

        def on_meta(meta: Meta) -> None:
            arrivals.note(meta)
            if not arrivals:
                promise(self)

        promise.when_cancelled(subscribe_to(self.backend, arrivals.missing(), on_meta))
        return promise

    def waiting_here(self) -> int:
        """How many results this object has not seen ready."""
        return sum(not leaf.ready_here() for leaf in self.leaves())

    def _throw_here(self) -> None:
        """Raise the exception of one that this object has seen fail."""
        for leaf in self.leaves():
            if leaf.state_here() in PROPAGATE_STATES:
                leaf.maybe_throw()

    def _load(self) -> list[AsyncResult[Any]]:
        leaves = list(self.leaves())
        if any(not leaf.ready_here() for leaf in leaves):
            load(self.backend, leaves)
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
        """How many members have succeeded; a nested group is one."""
        self._load()
        return sum(all(leaf.state_here() == "SUCCESS" for leaf in member.leaves()) for member in self.results)

    def maybe_throw(self, callback: OnValue | None = None, propagate: bool = True) -> None:
        """Raise the exception of the first failed one; ``callback(id, value)`` is called for those before it that have
        ended."""
        for leaf in self._load():
            if leaf.ready_here():
                leaf.maybe_throw(propagate, callback)

    maybe_reraise = maybe_throw

    def forget(self) -> None:
        """Remove all results, and those of their parents, from the backend."""
        forget(self.backend, self.results)

    def _ids_to_revoke(self) -> list[str]:
        leaves = list(self.leaves())
        for leaf in leaves:
            if isinstance(leaf, EagerResult):
                leaf.revoke()
        return [leaf.id for leaf in leaves if not isinstance(leaf, EagerResult)]

    # -- as a collection --

    def add(self, result: Any) -> None:
        """Add a result unless it is in."""
        if result not in self.results:
            self.results.append(result)

    def update(self, results: Iterable[Any]) -> None:
        """Add those that are not in."""
        known = {result.id for result in self.results}
        for result in results:
            if result.id not in known:
                known.add(result.id)
                self.results.append(result)

    def remove(self, result: Any) -> None:
        """Remove a result, given itself or its id. Raises KeyError when it is not in."""
        try:
            self.results.remove(result)
        except ValueError:
            raise KeyError(result) from None

    def discard(self, result: Any) -> None:
        """Remove a result, given itself or its id, if it is in."""
        if result in self.results:
            self.results.remove(result)

    def clear(self) -> None:
        """Remove all from this set; in the backend they stay."""
        self.results.clear()

    def __iter__(self) -> Iterator[Any]:
        return iter(self.results)

    def __len__(self) -> int:
        return len(self.results)

    def __getitem__(self, index: int) -> Any:
        return self.results[index]

    def __eq__(self, other: object) -> bool:
        return cast("ResultSet[Any]", other).results == self.results if isinstance(other, ResultSet) else NotImplemented

    def __repr__(self) -> str:
        return f"<{type(self).__name__}: [{', '.join(str(result) for result in self.results)}]>"

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self.results,)


def _value(result: Any, propagate: bool) -> Any:
    if isinstance(result, ResultSet):
        return [_value(member, propagate) for member in cast("ResultSet[Any]", result).results]
    return None if result.ignored and not result.ready_here() else result.maybe_throw(propagate)
