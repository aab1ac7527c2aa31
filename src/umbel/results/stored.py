"""What the result store knows of one task: asked for when it is needed, kept when the task has ended."""

from __future__ import annotations

import datetime
from typing import TYPE_CHECKING, Any

from umbel.backends.base import EXCEPTION_STATES, READY_STATES, Meta
from umbel.codecs.exceptions import decode_exception
from umbel.current import get_current_app
from umbel.results.base import ResultBase, described

if TYPE_CHECKING:
    from umbel.app import Umbel
    from umbel.backends.base import Backend
    from umbel.results.group import GroupResult
    from umbel.results.single import AsyncResult


class StoredResult(ResultBase):
    """State, value and particulars of a task by its id. ``AsyncResult`` adds waiting, and what goes with it."""

    _backend: Backend | None = None
    _meta: Meta | None = None
    _exception: BaseException | None = None

    def __init__(
        self,
        id: str,
        backend: Backend | None = None,
        task_name: str | None = None,
        app: Umbel | None = None,
        parent: AsyncResult[Any] | GroupResult | None = None,
    ) -> None:
        self.id = id
        self.task_name = task_name
        self._app = app
        if parent is not None:
            self.parent = parent
        if backend is not None:
            self._backend = backend

    @property
    def task_id(self) -> str:
        """The id of the task, as ``id``."""
        return self.id

    @property
    def app(self) -> Umbel:
        return self._app or get_current_app()

    @property
    def backend(self) -> Backend:
        """Where the result is stored."""
        return self._backend or self.app.backend

    @property
    def supports_native_join(self) -> bool:
        """Whether many of these can be waited for at once: everywhere where results are stored."""
        return not self.backend.features.knows_nothing

    # -- what was seen --

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

    def described_here(self) -> dict[str, Any]:
        """What this object has seen, as Celery's result document; an exception is rebuilt."""
        meta = self._meta or Meta(task_id=self.id, status="PENDING")
        return {**described(meta), "result": self._value(meta)}

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

    # -- what is stored --

    @property
    def state(self) -> str:
        """PENDING (nothing is known), STARTED, RETRY, SUCCESS, FAILURE, REVOKED or a state of the task's own."""
        return self._look().status

    status = state

    @property
    def result(self) -> Any:
        """The return value, the exception, or what ``update_state`` gave as ``meta``."""
        return self._value(self._look())

    info = result

    def exists(self) -> bool:
        """Whether the store has anything of the task; asks it each time."""
        return bool(self.backend.get([self.id]))

    def ready(self) -> bool:
        """Whether the task has ended, one way or another."""
        return self.state in READY_STATES

    def successful(self) -> bool:
        """Whether the task has returned."""
        return self.state == "SUCCESS"

    def failed(self) -> bool:
        """Whether the task has failed."""
        return self.state == "FAILURE"

    @property
    def traceback(self) -> str | None:
        """The traceback of a failed or retried task as text."""
        return self._look().traceback

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

    def _value(self, meta: Meta) -> Any:
        return self._error(meta) if meta.status in EXCEPTION_STATES else meta.result

    def _error(self, meta: Meta) -> BaseException:
        if self._exception is None or meta is not self._meta:
            self._exception = decode_exception(meta.result)
            if meta.traceback:
                self._exception.add_note(f"\nTraceback in the worker, task {self.id}:\n{meta.traceback}")
        return self._exception
