"""Tasks that can be asked to stop, and look for themselves whether they were.

    from umbel.abortable import AbortableTask

    @app.task(bind=True, base=AbortableTask)
    def crunch(self, items):
        for item in items:
            if self.is_aborted():
                return "stopped early"
            ...

    crunch.delay(items).abort()

Revoking (``result.revoke``) keeps a task from being begun, or ends it by force; aborting lets it end its own way. The
demand is kept in the result store, so that it reaches a task that has not begun as well, and is not undone by states
that the task stores of itself.
"""

from __future__ import annotations

from typing import Any, ParamSpec, TypeVar

from umbel.backends.base import READY_STATES, Backend, Meta
from umbel.errors import BackendError, NoBackend
from umbel.result import AsyncResult
from umbel.task import Task

__all__ = ["ABORTED", "AbortableAsyncResult", "AbortableTask"]

P = ParamSpec("P")
R = TypeVar("R")

ABORTED = "ABORTED"
"""State of a task from when it was asked to stop until it ends, or stores another one."""


class AbortableAsyncResult(AsyncResult[R]):
    """The result of a task that can be asked to stop."""

    def is_aborted(self) -> bool:
        """Whether the task was asked to stop and has not ended since.

        False where the result store cannot tell. Raises OperationalError when it cannot be reached.
        """
        backend = self.backend
        if not _keeps_demands(backend):
            return False
        known = backend.get([self.id, _demand(self.id)])
        state = known[self.id].status if self.id in known else "PENDING"
        return state == ABORTED or (_demand(self.id) in known and state not in READY_STATES)

    def abort(self) -> None:
        """Ask the task to stop; its state is ABORTED meanwhile. Has no effect on one that has ended.

        Raises NoBackend without a result store, BackendError with one from which a running task cannot read
        (``rpc://``), OperationalError when it cannot be reached.
        """
        backend = self.backend
        if backend.features.knows_nothing:
            raise NoBackend("a task can be aborted only with a result backend: set result_backend")
        if not _keeps_demands(backend):
            raise BackendError(
                f"{type(backend).__name__} cannot tell a running task that it was aborted: use another "
                "result_backend, or result.revoke(terminate=True)"
            )
        if self.state in READY_STATES:
            return
        metas = (Meta(task_id=self.id, status=ABORTED), Meta(task_id=_demand(self.id), status=ABORTED))
        backend.store([backend.encode(meta) for meta in reversed(metas)])

    def forget(self) -> None:
        """Remove the result from the result store, and the demand to stop with it."""
        if _keeps_demands(self.backend):
            self.backend.forget([_demand(self.id)])
        super().forget()


class AbortableTask(Task[P, R]):
    """Base of tasks that look whether they were asked to stop: ``base=AbortableTask``."""

    def AsyncResult(self, task_id: str, **kwargs: Any) -> AbortableAsyncResult[R]:
        """The result of a call of this task by its id."""
        return AbortableAsyncResult(task_id, task_name=self.name, app=self.app, **kwargs)

    def is_aborted(self, **kwargs: Any) -> bool:
        """Whether the call that runs here, or the one of ``task_id=``, was asked to stop.

        Asks the result store at each call. False when called as a plain function, and where the store cannot tell.
        """
        task_id = kwargs.get("task_id", self.request.id)
        return bool(task_id) and self.AsyncResult(task_id).is_aborted()


def _demand(task_id: str) -> str:
    """Under which id the result store has the demand that this task stops."""
    return f"abort-{task_id}"


def _keeps_demands(backend: Backend) -> bool:
    """Whether others than the sender of a task can read what is stored of it: not where results are answers to the
    sender's queue. Such a store can keep no groups either."""
    return backend.features.groups
