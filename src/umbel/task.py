"""A task: a function with a name, options and handlers, which can be called here or sent away.

``Task[P, R]`` carries the function's parameters and return type, so that a type checker checks ``delay`` as it checks
a call. Options are class attributes, set by ``@app.task(...)`` or in a subclass; None means the application's setting.
"""

from __future__ import annotations

from collections.abc import Coroutine, Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar, ParamSpec, TypeVar, cast

from umbel.calling import CallableTask
from umbel.current import current_request, drop_request, pop_request, push_request
from umbel.discovery import annotate
from umbel.errors import MaxRetriesExceededError, OperationalError
from umbel.naming import default_name
from umbel.options import FROM_CONFIG
from umbel.request import Request
from umbel.request_stack import RequestStack

if TYPE_CHECKING:
    from umbel.app import Umbel
    from umbel.backends.base import Backend
    from umbel.canvas.signature import Signature
    from umbel.errors import Retry
    from umbel.failures import ExceptionInfo

P = ParamSpec("P")
R = TypeVar("R")


class Task(CallableTask[P, R]):
    """Base of all tasks; subclass it for ``base=`` or to write a task as a class with a method ``run``.

    One object per application serves all calls, so attributes set in ``__init__`` are kept between calls of a process.
    Times are seconds. ``max_retries`` None means without end.
    """

    MaxRetriesExceededError = MaxRetriesExceededError
    OperationalError = OperationalError

    abstract: bool = True
    from_config: ClassVar[tuple[tuple[str, str], ...]] = tuple(FROM_CONFIG.items())
    """Options that settings give where the task has no value: pairs of option and setting. Subclasses may add to it."""

    # -- life --

    def bind(self, app: Umbel) -> None:
        """Belong to ``app``: take its settings for options that have no value."""
        self.app = app
        conf = app.conf
        for option, setting in self.from_config:
            if getattr(self, option, None) is None:
                setattr(self, option, conf[setting])
        self._send_defaults = None
        self.on_bound(app)

    def on_bound(self, app: Umbel) -> None:
        """Called when the task has got its application."""

    def annotate(self) -> None:
        """Take the attributes that ``task_annotations`` gives; done when the application is finalized."""
        annotate(self, self.app.conf.task_annotations)

    def run(self, *args: P.args, **kwargs: P.kwargs) -> R:
        """The body of the task."""
        raise NotImplementedError(f"task {self.name or type(self).__name__} has no run()")

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> R:
        """Call the function here, as a plain function; its request says ``called_directly``."""
        token = push_request(Request(args=args, kwargs=kwargs, owner_task=self, enclosing=current_request()))
        try:
            return self.run(*args, **kwargs)
        finally:
            pop_request(token)

    # -- inside --

    @property
    def request(self) -> Request:
        """The call that runs here and now; one that says ``called_directly`` when none does."""
        found = current_request()
        while found is not None:
            if found.owner_task is self:
                return found
            found = found.enclosing
        return Request(owner_task=self)

    def push_request(self, *args: Any, **kwargs: Any) -> None:
        """Pretend a call, for tests; ``pop_request`` ends it."""
        push_request(Request(owner_task=self, enclosing=current_request()))
        cast("Request", current_request()).update(*args, **kwargs)

    def pop_request(self) -> None:
        drop_request()

    @property
    def request_stack(self) -> RequestStack:
        """The requests of this task that are open here."""
        return RequestStack(self)

    @property
    def backend(self) -> Backend:
        return self.app.backend

    def retry(
        self,
        args: Sequence[Any] | None = None,
        kwargs: Mapping[str, Any] | None = None,
        exc: BaseException | None = None,
        throw: bool = True,
        eta: Any = None,
        countdown: float | None = None,
        max_retries: int | None = None,
        **options: Any,
    ) -> Retry:
        """Run this call again later: same id, one retry more.

        Raises Retry (or returns it, with ``throw=False``); the message goes out with the acknowledgement of this one.
        When ``max_retries`` is reached, raises ``exc`` if given, else MaxRetriesExceededError. Called as a plain
        function there is nothing to retry: the exception being handled is raised, or ``exc``, or Retry.
        ``countdown`` in seconds, by default ``default_retry_delay``.
        """
        from umbel.retrying import retry

        return retry(self, args, kwargs, exc, throw, eta, countdown, max_retries, options)

    def replace(self, sig: Any) -> Any:
        """Run ``sig`` (any canvas) in place of this task: same id, callbacks and chord, the chain goes on after it.

        Nothing after this runs: raises Replaced, which must not be caught. Raises InvalidCanvas for what cannot run.
        """
        from umbel.canvas.replacing import replace

        return replace(self, sig)

    def add_to_chord(self, sig: Any, lazy: bool = False) -> Any:
        """Add a member to the chord that this task is a member of; its result, or with ``lazy`` its signature.

        It is sent when this task ends. Raises InvalidCanvas outside of a chord.
        """
        from umbel.canvas.replacing import add_to_chord

        return add_to_chord(self, sig, lazy)

    def signature_from_request(
        self,
        request: Request | None = None,
        args: Sequence[Any] | None = None,
        kwargs: Mapping[str, Any] | None = None,
        queue: str | None = None,
        **extra_options: Any,
    ) -> Signature[..., R]:
        """The present call as data, with other arguments or options where given."""
        from umbel.retrying import signature_from_request

        return signature_from_request(self, request or self.request, args, kwargs, queue, extra_options)

    subtask_from_request = signature_from_request

    def add_trail(self, result: Any) -> Any:
        """Note ``result`` as that of a task which this one has sent, unless ``trail`` is off; returns it."""
        if self.trail:
            self.request.children.append(result)
        return result

    def update_state(self, task_id: str | None = None, state: str | None = None, meta: Any = None) -> None:
        """Store a state of your own with ``meta`` (any serializable value) while the task runs.

        Raises EncodeError; NoBackend where no result backend is configured.
        """
        from umbel.own_states import store_state

        store_state(self, self.request, task_id, state or "PROGRESS", meta)

    def progress(self, done: float, total: float | None = None, **info: Any) -> None:
        """Store how far the task is: state PROGRESS with ``{"current", "total", "percent", **info}``.

        Does nothing when called as a plain function or without a result backend, so that tasks stay callable.
        """
        if self.request.called_directly or self.app.backend.features.knows_nothing:
            return
        percent = round(100 * done / total, 1) if total else None
        self.update_state(state="PROGRESS", meta={"current": done, "total": total, "percent": percent, **info})

    # -- handlers, to be overridden --

    def before_start(self, task_id: str, args: Any, kwargs: Any) -> None:
        """Called before the function; an exception fails the task."""

    def on_success(self, retval: Any, task_id: str, args: Any, kwargs: Any) -> None:
        """Called after the function returned; an exception fails the task."""

    def on_failure(self, exc: BaseException, task_id: str, args: Any, kwargs: Any, einfo: ExceptionInfo) -> None:
        """Called when the task failed."""

    def on_retry(self, exc: BaseException, task_id: str, args: Any, kwargs: Any, einfo: ExceptionInfo) -> None:
        """Called when the task is to be retried; ``exc`` is what caused it."""

    def after_return(
        self, status: str, retval: Any, task_id: str, args: Any, kwargs: Any, einfo: ExceptionInfo | None
    ) -> None:
        """Called last, whatever the outcome; ``retval`` is the value or the exception."""

    def on_replace(self, sig: Any) -> Any:
        """Called by ``replace`` with what is to run instead; must end in ``return super().on_replace(sig)``."""
        from umbel.canvas.replacing import send_replacement

        return send_replacement(self, sig)

    def __reduce__(self) -> tuple[Any, ...]:
        return find_task, (self.name, self.app.main)

    def __repr__(self) -> str:
        return f"<@task: {self.name}>"


__all__ = ["AsyncTask", "Task", "default_name", "find_task"]

if TYPE_CHECKING:

    class AsyncTask(Task[P, R]):
        """A task whose function is a coroutine function: calling it gives a coroutine."""

        def __call__(  # pyright: ignore[reportIncompatibleMethodOverride]
            self, *args: P.args, **kwargs: P.kwargs
        ) -> Coroutine[Any, Any, R]: ...

else:
    AsyncTask = Task


def find_task(name: str, main: str | None) -> Task[..., Any]:
    """The task of this name in the current application, for pickled tasks."""
    from umbel.current import get_current_app

    return get_current_app().tasks[name]
