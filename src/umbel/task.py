"""A task: a function with a name, options and handlers, which can be called here or sent away.

``Task[P, R]`` carries the function's parameters and return type, so that a type checker checks ``delay`` as it checks
a call. Options are class attributes, set by ``@app.task(...)`` or in a subclass; None means the application's setting.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Coroutine, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Concatenate, Generic, ParamSpec, TypeVar, cast, overload

from umbel import result
from umbel.current import current_request, drop_request, pop_request, push_request
from umbel.errors import MaxRetriesExceededError, OperationalError
from umbel.options import FROM_CONFIG, TaskOptions
from umbel.publishing import send
from umbel.request import Request
from umbel.sending import defaults_of, prepare, publish_deadline
from umbel.validation import Checker, compile_checker

if TYPE_CHECKING:
    from typing import Unpack

    from umbel.app import Umbel
    from umbel.backends.base import Backend
    from umbel.canvas.maps import chunks, xmap, xstarmap
    from umbel.canvas.signature import Signature
    from umbel.errors import Retry
    from umbel.failures import ExceptionInfo
    from umbel.result import AsyncResult, EagerResult
    from umbel.sending import SendOptions

P = ParamSpec("P")
Q = ParamSpec("Q")
R = TypeVar("R")
A = TypeVar("A")
B = TypeVar("B")


class Task(TaskOptions, Generic[P, R]):
    """Base of all tasks; subclass it for ``base=`` or to write a task as a class with a method ``run``.

    One object per application serves all calls, so attributes set in ``__init__`` are kept between calls of a process.
    Times are seconds. ``max_retries`` None means without end.
    """

    MaxRetriesExceededError = MaxRetriesExceededError
    OperationalError = OperationalError

    name: str = ""
    app: Umbel
    abstract: bool = True

    _checker: Checker | None = None
    _send_defaults: dict[str, Any] | None = None

    # -- life --

    def bind(self, app: Umbel) -> None:
        """Belong to ``app``: take its settings for options that have no value."""
        self.app = app
        conf = app.conf
        for option, setting in FROM_CONFIG.items():
            if getattr(self, option, None) is None:
                setattr(self, option, conf[setting])
        self._send_defaults = None
        self.on_bound(app)

    def on_bound(self, app: Umbel) -> None:
        """Called when the task has got its application."""

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

    # -- sending --

    def delay(self, *args: P.args, **kwargs: P.kwargs) -> AsyncResult[R]:
        """Send the task with these arguments. Raises what ``apply_async`` raises."""
        return self.apply_async(args, kwargs)

    def apply_async(
        self,
        args: Sequence[Any] | None = None,
        kwargs: Mapping[str, Any] | None = None,
        task_id: str | None = None,
        producer: Any = None,
        link: Any = None,
        link_error: Any = None,
        shadow: str | None = None,
        **options: Unpack[SendOptions],
    ) -> AsyncResult[R]:
        """Send the task with arguments and options; returns when the broker has it for sure.

        Raises TypeError (arguments do not fit the function, unknown option), EncodeError, MessageTooLarge,
        UnroutableMessage, PublishTimeout or OperationalError (nothing was confirmed within the deadline). Of a
        ``unique`` task the result may be that of an earlier call; DuplicateTaskError where that is asked for.
        """
        app = self.app
        given = self._options(args, kwargs, task_id, link, link_error, shadow, options)
        if app.conf.task_always_eager:
            return self._apply_instead(args, kwargs, given)
        message = prepare(app, self.name, args, kwargs, given, self)
        sent = self.AsyncResult(send(app, self, message, publish_deadline(app, given)))
        app.adopt(sent, given)
        return sent

    async def adelay(self, *args: P.args, **kwargs: P.kwargs) -> AsyncResult[R]:
        """As ``delay``; the event loop is not blocked meanwhile."""
        return await self.aapply_async(args, kwargs)

    async def aapply_async(
        self,
        args: Sequence[Any] | None = None,
        kwargs: Mapping[str, Any] | None = None,
        task_id: str | None = None,
        producer: Any = None,
        link: Any = None,
        link_error: Any = None,
        shadow: str | None = None,
        **options: Unpack[SendOptions],
    ) -> AsyncResult[R]:
        """As ``apply_async``; the event loop is not blocked meanwhile."""
        import asyncio

        app = self.app
        given = self._options(args, kwargs, task_id, link, link_error, shadow, options)
        if app.conf.task_always_eager:
            return await asyncio.to_thread(self._apply_instead, args, kwargs, given)
        message = prepare(app, self.name, args, kwargs, given, self)
        sent = self.AsyncResult(await asyncio.to_thread(send, app, self, message, publish_deadline(app, given)))
        app.adopt(sent, given)
        return sent

    def release_unique(self, *args: P.args, **kwargs: P.kwargs) -> bool:
        """Free the unique key of a call with these arguments, whoever has it, as after a purge; whether anybody had."""
        from umbel.limits.unique import release_unique

        return release_unique(self, prepare(self.app, self.name, args, kwargs, {}, self))

    def _options(
        self,
        args: Sequence[Any] | None,
        kwargs: Mapping[str, Any] | None,
        task_id: str | None,
        link: Any,
        link_error: Any,
        shadow: str | None,
        options: Any,
    ) -> dict[str, Any]:
        self.check_arguments(args, kwargs)
        if task_id is not None:
            options["task_id"] = task_id
        if link is not None:
            options["link"] = link
        if link_error is not None:
            options["link_error"] = link_error
        if shadow is None:
            shadow = self.shadow_name(args or (), kwargs or {}, options)
        if shadow is not None:
            options["shadow"] = shadow
        return options

    def _apply_instead(self, args: Any, kwargs: Any, options: dict[str, Any]) -> AsyncResult[R]:
        done = self.apply(args, kwargs, **options)
        self.app.adopt(done, options)
        return done

    def check_arguments(self, args: Sequence[Any] | None, kwargs: Mapping[str, Any] | None) -> None:
        """Raise TypeError if the function cannot be called with these arguments, unless ``typing`` is off."""
        checker = self._checker
        if checker is None:
            checker = self._checker = compile_checker(self)
        checker(*(args or ()), **(kwargs or {}))

    def send_defaults(self) -> dict[str, Any]:
        """The execution options that the task's attributes give."""
        if self._send_defaults is None:
            self._send_defaults = defaults_of(self)
        return self._send_defaults

    def __setattr__(self, name: str, value: Any) -> None:
        object.__setattr__(self, name, value)
        if name[0] != "_":
            self.__dict__.pop("_send_defaults", None)
            self.__dict__.pop("_checker", None)
            self.__dict__.pop("_plan", None)
            self.__dict__.pop("_unique_rule", None)

    def shadow_name(self, args: Sequence[Any], kwargs: Mapping[str, Any], options: Mapping[str, Any]) -> str | None:
        """Override: the name to show for one call in logs and events."""
        return None

    def apply(
        self,
        args: Sequence[Any] | None = None,
        kwargs: Mapping[str, Any] | None = None,
        link: Any = None,
        link_error: Any = None,
        task_id: str | None = None,
        retries: int | None = None,
        throw: bool | None = None,
        logfile: str | None = None,
        loglevel: Any = None,
        headers: Mapping[str, Any] | None = None,
        **options: Any,
    ) -> EagerResult[R]:
        """Run the task here and now, retries included (without their delay).

        ``throw``: raise its exception; by default as ``task_eager_propagates`` says.
        """
        from umbel.eager import apply

        given = {**options, "link": link, "link_error": link_error, "headers": headers}
        given |= {"logfile": logfile, "loglevel": loglevel}
        return apply(self, args, kwargs, task_id=task_id, retries=retries or 0, throw=throw, options=given)

    # -- as data --

    def signature(
        self,
        args: Sequence[Any] | None = None,
        kwargs: Mapping[str, Any] | None = None,
        options: Mapping[str, Any] | None = None,
        **more: Any,
    ) -> Signature[..., R]:
        """A call as data; ``immutable=True`` ignores what it is called with."""
        from umbel.canvas.signature import Signature

        return Signature(self, args, kwargs, options, app=self.app, **more)

    subtask = signature

    @overload
    def s(self: Task[Concatenate[A, Q], R], *args: Q.args, **kwargs: Q.kwargs) -> Signature[[A], R]: ...
    @overload
    def s(self, *args: P.args, **kwargs: P.kwargs) -> Signature[[], R]: ...
    @overload
    def s(self: Task[Concatenate[A, B, Q], R], *args: Q.args, **kwargs: Q.kwargs) -> Signature[[A, B], R]: ...
    @overload
    def s(self, *args: Any, **kwargs: Any) -> Signature[..., R]: ...
    def s(self, *args: Any, **kwargs: Any) -> Signature[..., R]:
        """A call with these arguments (which may be partial) as data."""
        return self.signature(args, kwargs)

    def si(self, *args: P.args, **kwargs: P.kwargs) -> Signature[..., R]:
        """A call with exactly these arguments as data."""
        return self.signature(args, kwargs, immutable=True)

    def map(self, it: Iterable[Any]) -> xmap:
        """One message that calls the task with each item."""
        from umbel.canvas.maps import xmap

        return xmap(self.s(), it, app=self.app)

    def starmap(self, it: Iterable[Any]) -> xstarmap:
        """One message that calls the task with the arguments in each item."""
        from umbel.canvas.maps import xstarmap

        return xstarmap(self.s(), it, app=self.app)

    def chunks(self, it: Iterable[Any], n: int) -> chunks:
        """As ``starmap``, with ``n`` items in each message."""
        from umbel.canvas.maps import chunks

        return chunks(self.s(), it, n, app=self.app)

    def AsyncResult(self, task_id: str, **kwargs: Any) -> AsyncResult[R]:
        """The result of a call of this task by its id."""
        return result.AsyncResult(task_id, task_name=self.name, app=self.app, **kwargs)

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

    def on_replace(self, sig: Any) -> Any:
        """Called by ``replace`` with what takes the task's place, which it sends; override it to change ``sig``, and
        return what this one returns."""
        from umbel.canvas.replacing import send_replacement

        return send_replacement(self, sig)

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

    def update_state(self, task_id: str | None = None, state: str | None = None, meta: Any = None) -> None:
        """Store a state of your own with ``meta`` (any serializable value) while the task runs.

        Raises EncodeError; NoBackend where no result backend is configured.
        """
        from umbel.states import store_state

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

    def __reduce__(self) -> tuple[Any, ...]:
        return find_task, (self.name, self.app.main)

    def __repr__(self) -> str:
        return f"<@task: {self.name}>"


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


def default_name(function: Callable[..., Any], main: str | None) -> str:
    """``module.function``; the application's name stands for ``__main__``."""
    module = getattr(function, "__module__", None) or "__main__"
    if module == "__main__":
        module = main or _main_module()
    return f"{module}.{getattr(function, '__name__', type(function).__name__)}"


def _main_module() -> str:
    spec = getattr(sys.modules.get("__main__"), "__spec__", None)
    return spec.name if spec is not None else "__main__"
