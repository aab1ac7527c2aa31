"""Results as callers see them: of one task (:class:`AsyncResult`), of one that ran here (:class:`EagerResult`)."""

from __future__ import annotations

import builtins
import datetime
import time
from collections.abc import Callable, Generator, Iterator
from typing import TYPE_CHECKING, Any, Generic, Literal, TypeVar, cast

from umbel.backends.base import EXCEPTION_STATES, READY_STATES, Meta
from umbel.codecs.exceptions import decode_exception
from umbel.current import get_current_app
from umbel.errors import TaskRevokedError, TimeoutError
from umbel.joining import WouldBlock, allow_join_result, assert_will_not_block, denied_join_result

if TYPE_CHECKING:
    from umbel.app import Umbel
    from umbel.backends.base import Backend
    from umbel.brokers.base import Place
    from umbel.groups import GroupResult

__all__ = [
    "AsyncResult",
    "EagerResult",
    "WouldBlock",
    "allow_join_result",
    "assert_will_not_block",
    "denied_join_result",
    "result_from_tuple",
]

R = TypeVar("R")

_DEEPEST = 100
PROPAGATE_STATES = frozenset({"FAILURE", "REVOKED"})


class AsyncResult(Generic[R]):
    """The result of a task that was sent, by its id.

    Nothing is asked of the result backend before a method or property needs it; what a ready task brought is kept.
    Everything raises NoBackend where no result backend is configured.
    """

    TimeoutError = TimeoutError

    def __init__(
        self,
        id: str,
        backend: Backend | None = None,
        task_name: str | None = None,
        app: Umbel | None = None,
        parent: AsyncResult[Any] | None = None,
    ) -> None:
        self.id = id
        self.task_name = task_name
        self.parent = parent
        self.ignored = False
        self._app = app
        self._backend = backend
        self._meta: Meta | None = None
        self._exception: BaseException | None = None

    @property
    def task_id(self) -> str:
        return self.id

    @property
    def app(self) -> Umbel:
        return self._app or get_current_app()

    @property
    def backend(self) -> Backend:
        return self._backend or self.app.backend

    # -- waiting --

    def get(
        self,
        timeout: float | None = None,
        propagate: bool = True,
        interval: float = 0.5,
        no_ack: bool = True,
        follow_parents: bool = True,
        callback: Callable[[str, Any], object] | None = None,
        on_message: Callable[[dict[str, Any]], object] | None = None,
        on_interval: Callable[[], object] | None = None,
        disable_sync_subtasks: bool = True,
    ) -> R:
        """Wait for the return value.

        ``timeout``: seconds, None waits for ever. ``propagate``: raise the task's exception, otherwise return it.
        ``interval``: seconds between calls of ``on_interval`` and looks at parents; results themselves are pushed.
        ``callback(id, value)`` is called at the end, ``on_message(meta)`` at each change of state. ``no_ack`` has no
        effect. Raises TimeoutError, the task's exception, WouldBlock inside a task.
        """
        if self.ignored:
            return cast(R, None)
        if disable_sync_subtasks:
            assert_will_not_block()
        if self._meta is None:
            parents = list(self._links_before()) if follow_parents and propagate else []
            self._wait(timeout, interval, parents, on_message, on_interval)
        return cast(R, self.maybe_throw(propagate, callback))

    wait = get

    def _wait(
        self,
        timeout: float | None,
        interval: float,
        parents: list[AsyncResult[Any]],
        on_message: Callable[[dict[str, Any]], object] | None,
        on_interval: Callable[[], object] | None,
    ) -> None:
        deadline = None if timeout is None else time.monotonic() + timeout
        sliced = on_interval is not None or bool(parents)

        def on_meta(meta: Meta) -> None:
            if on_message is not None:
                on_message(_described(meta))
            self.remember(meta)

        while self._meta is None:
            left = None if deadline is None else max(0.0, deadline - time.monotonic())
            piece = left if not sliced else interval if left is None else min(left, interval)
            done = self.backend.wait([self.id], piece, on_meta)
            if self._meta is not None:
                return
            while parents:
                parents[-1].maybe_throw()
                if not parents[-1].ready_here():
                    break
                parents.pop()
            if on_interval is not None:
                on_interval()
            if done or (deadline is not None and time.monotonic() >= deadline):
                raise TimeoutError(f"no result of task {self.id} within {timeout} s")

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

    def _links_before(self) -> Iterator[AsyncResult[Any]]:
        """The parents up to a group: what fails in a chord's header comes as the body's ChordError."""
        for parent in self._parents():
            if not isinstance(cast("Any", parent), AsyncResult):
                return
            yield parent

    def _parents(self) -> Iterator[AsyncResult[Any]]:
        node = self.parent
        while node is not None:
            yield node
            node = node.parent

    # -- state --

    def remember(self, meta: Meta) -> None:
        """Keep ``meta`` if it says that the task has ended."""
        if meta.status in READY_STATES:
            self._meta = meta

    def ready_here(self) -> bool:
        """Whether this object has seen the task end; asks nobody."""
        return self._meta is not None

    def state_here(self) -> str:
        """The state that this object has seen; asks nobody."""
        return self._meta.status if self._meta is not None else "PENDING"

    def forget_here(self) -> None:
        """Forget what was seen."""
        self._meta = self._exception = None

    def _look(self) -> Meta:
        if self._meta is not None:
            return self._meta
        meta = self.backend.get([self.id]).get(self.id)
        if meta is None:
            return Meta(task_id=self.id, status="PENDING")
        self.remember(meta)
        return meta

    @property
    def state(self) -> str:
        """PENDING (nothing is known), STARTED, RETRY, SUCCESS, FAILURE, REVOKED or a state of the task's own."""
        return self._look().status

    status = state

    @property
    def result(self) -> Any:
        """The return value, the exception, or what ``update_state`` gave as ``meta``."""
        meta = self._look()
        return self._error(meta) if meta.status in EXCEPTION_STATES else meta.result

    info = result

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

    def ready(self) -> bool:
        """Whether the task has ended, one way or another."""
        return self.state in READY_STATES

    def successful(self) -> bool:
        return self.state == "SUCCESS"

    def failed(self) -> bool:
        return self.state == "FAILURE"

    @property
    def traceback(self) -> str | None:
        """The traceback of a failed or retried task as text."""
        return self._look().traceback

    @property
    def children(self) -> list[AsyncResult[Any] | GroupResult] | None:
        """Results of the tasks that this one has sent; None while unknown."""
        stored = self._look().children
        return [result_from_tuple(item, self._app) for item in stored] if stored is not None else None

    @property
    def date_done(self) -> datetime.datetime | None:
        """When the task ended."""
        done = self._look().date_done
        return datetime.datetime.fromisoformat(done) if done else None

    @property
    def retries(self) -> int | None:
        """With ``result_extended``: how often the task was retried."""
        return self._look().retries

    @property
    def name(self) -> str | None:
        """With ``result_extended``: the task's name."""
        return self._look().name

    @property
    def args(self) -> Any:
        """With ``result_extended``: the positional arguments."""
        return self._look().args

    @property
    def kwargs(self) -> Any:
        """With ``result_extended``: the keyword arguments."""
        return self._look().kwargs

    @property
    def worker(self) -> str | None:
        """With ``result_extended``: the worker's node name."""
        return self._look().worker

    @property
    def queue(self) -> str | None:
        """With ``result_extended``: the queue that the task came through."""
        return self._look().queue

    # -- errors --

    def maybe_throw(self, propagate: bool = True, callback: Callable[[str, Any], object] | None = None) -> Any:
        """The value as it stands now; raises the exception of a failed or revoked task if ``propagate``."""
        meta = self._look()
        value = self._error(meta) if meta.status in EXCEPTION_STATES else meta.result
        if propagate and meta.status in PROPAGATE_STATES:
            raise value
        if callback is not None:
            callback(self.id, value)
        return value

    maybe_reraise = maybe_throw

    def _error(self, meta: Meta) -> BaseException:
        if self._exception is None or meta is not self._meta:
            self._exception = decode_exception(meta.result)
            if meta.traceback:
                self._exception.add_note(f"\nTraceback in the worker, task {self.id}:\n{meta.traceback}")
        return self._exception

    # -- the rest --

    def forget(self) -> None:
        """Remove the result from the backend, and what is remembered of it here."""
        self._meta = self._exception = None
        if self.parent is not None:
            self.parent.forget()
        self.backend.forget([self.id])

    def revoke(
        self,
        connection: object = None,
        terminate: bool = False,
        signal: str | int | None = None,
        wait: bool = False,
        timeout: float | None = None,
    ) -> None:
        """See to it that the task is not run; end it, if it runs, with ``terminate``. See ``app.control.revoke``.

        ``signal``: what ends it in prefork pools, default SIGTERM. ``wait``: until it has ended, for up to ``timeout``
        seconds (default 1). ``connection`` has no effect.
        """
        self.app.control.revoke(self.id, None, terminate, signal, wait=wait, timeout=timeout)

    def as_tuple(self) -> tuple[Any, Any]:
        """The form in which results travel: ``((id, parent), None)``.

        Of a long chain only the nearest parents: nobody can read what is nested deeper.
        """
        links: list[AsyncResult[Any]] = [self]
        above = cast("Any", self.parent)
        while isinstance(above, AsyncResult) and len(links) < _DEEPEST:
            links.append(cast("AsyncResult[Any]", above))
            above = links[-1].parent
        found: Any = None if above is None or isinstance(above, AsyncResult) else above.as_tuple()
        for each in reversed(links):
            found = (each.id, found), None
        return found

    def as_list(self) -> list[str]:
        """The ids of this result and its parents."""
        return [self.id, *(parent.id for parent in self._parents())]

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

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self.id, None, self.task_name, None, self.parent)


class EagerResult(AsyncResult[R]):
    """The result of a task that ran in this process."""

    def __init__(
        self, id: str, ret_value: Any, state: str, traceback: str | None = None, name: str | None = None
    ) -> None:
        super().__init__(id, task_name=name)
        failed = state in EXCEPTION_STATES and isinstance(ret_value, BaseException)
        self._exception = ret_value if failed else None
        self._meta = Meta(task_id=id, status=state, result=ret_value, traceback=traceback, name=name)

    def _look(self) -> Meta:
        return self._meta or Meta(task_id=self.id, status="PENDING")

    def _error(self, meta: Meta) -> BaseException:
        return self._exception or decode_exception(meta.result)

    def get(self, timeout: float | None = None, propagate: bool = True, *args: Any, **kwargs: Any) -> R:
        """The value; raises the task's exception if ``propagate``. Also for RETRY, which is not repeated here."""
        return cast(R, self.maybe_throw(propagate, kwargs.get("callback")))

    wait = get

    async def aget(self, timeout: float | None = None, propagate: bool = True) -> R:
        return self.get(propagate=propagate)

    def ready(self) -> bool:
        return True

    def whereabouts(self) -> Literal["ended"]:
        return "ended"

    def forget(self) -> None:
        self._meta = self._exception = None

    def revoke(self, *args: Any, **kwargs: Any) -> None:
        """The task has ended, so there is nothing to revoke but its state, which is REVOKED from now on."""
        self._meta = Meta(task_id=self.id, status="REVOKED", result=TaskRevokedError("revoked"), name=self.task_name)
        self._exception = TaskRevokedError("revoked")

    def __repr__(self) -> str:
        return f"<EagerResult: {self.id}>"

    def __reduce__(self) -> tuple[Any, ...]:
        meta = self._look()
        return type(self), (self.id, meta.result, meta.status, meta.traceback, self.task_name)


def _described(meta: Meta) -> dict[str, Any]:
    return {
        "task_id": meta.task_id,
        "status": meta.status,
        "result": meta.result,
        "traceback": meta.traceback,
        "children": meta.children,
    }


def result_from_tuple(data: Any, app: Umbel | None = None) -> AsyncResult[Any] | GroupResult:
    """The result that ``as_tuple`` or a stored ``children`` entry describes."""
    from umbel.groups import GroupResult

    if isinstance(data, (AsyncResult, GroupResult)):
        return cast("AsyncResult[Any] | GroupResult", data)
    head, members = cast("tuple[Any, Any]", data)
    result_id, parent = cast("tuple[str, Any]", head if isinstance(head, (list, tuple)) else (head, None))
    if members is None:
        above = result_from_tuple(parent, app) if parent else None
        return AsyncResult(result_id, app=app, parent=cast("AsyncResult[Any] | None", above))
    return GroupResult(result_id, [result_from_tuple(member, app) for member in members], app=app)
