"""The result of a task that ran in this process."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal, TypeVar, cast

from umbel.backends.base import EXCEPTION_STATES, Meta
from umbel.codecs.exceptions import decode_exception
from umbel.errors import TaskRevokedError
from umbel.results.promises import Promise
from umbel.results.single import AsyncResult

R = TypeVar("R")


class EagerResult(AsyncResult[R]):
    """The result of a task that ran in this process: it is there, and no store is asked."""

    __module__ = "umbel.result"

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
        """The value; raises the task's exception if ``propagate``. Also for RETRY, which is not repeated here.

        The parameters are those of ``AsyncResult.get``; there is nothing to wait for, inside a task either.
        """
        return cast(R, self.maybe_throw(propagate, kwargs.get("callback")))

    wait = get

    async def aget(self, timeout: float | None = None, propagate: bool = True) -> R:
        return self.get(propagate=propagate)

    def then(
        self,
        callback: Callable[[AsyncResult[R]], Any],
        on_error: Callable[[BaseException], object] | None = None,
        weak: bool = False,
    ) -> Promise:
        """Call ``callback(result)`` here and now."""
        promise = Promise(callback, on_error)
        promise(self)
        return promise

    @property
    def supports_native_join(self) -> bool:
        """No: there is no store to wait for."""
        return False

    def ready(self) -> bool:
        return True

    def exists(self) -> bool:
        return True

    def whereabouts(self) -> Literal["ended"]:
        return "ended"

    def forget(self) -> None:
        """Nothing is stored, so nothing is removed."""

    def revoke(self, *args: Any, **kwargs: Any) -> None:
        """The task has ended, so there is nothing to revoke but its state, which is REVOKED from now on."""
        self._meta = Meta(task_id=self.id, status="REVOKED", result=TaskRevokedError("revoked"), name=self.task_name)
        self._exception = TaskRevokedError("revoked")

    def __copy__(self) -> EagerResult[R]:
        return type(self)(*self._particulars())

    def _particulars(self) -> tuple[Any, ...]:
        meta = self._look()
        return self.id, meta.result, meta.status, meta.traceback, self.task_name

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), self._particulars()
