"""Middleware: code of users around every call on its way out, and around every run.

For those who want one object around an operation where signals give two moments of it: a middleware sees errors pass,
may change what goes in and what comes out, and may hold something open meanwhile. The middlewares of an application
are compiled into one chain, so that without any nothing is called.
"""

from __future__ import annotations

import inspect
from collections.abc import Awaitable, Callable, Coroutine, Iterator, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

from msgspec import Struct

from umbel.current import current_request
from umbel.errors import ConfigurationError
from umbel.message import Message

if TYPE_CHECKING:
    from umbel.app import Umbel
    from umbel.request import Request
    from umbel.task import Task


Publish = Callable[["Call"], Message]
AsyncPublish = Callable[["Call"], Coroutine[Any, Any, Message]]


class Call(Struct):
    """A call on its way out, before it is a message; everything may be changed.

    ``name``: of the task. ``options``: as of ``apply_async``. ``task``: the task object where this process knows it.
    """

    name: str
    args: list[Any]
    kwargs: dict[str, Any]
    options: dict[str, Any]
    task: Task[..., Any] | None

    @property
    def headers(self) -> dict[str, Any]:
        """The user's own headers of the message; the task finds them in ``request.headers``."""
        found: dict[str, Any] = self.options.setdefault("headers", {})
        return found


class Middleware:
    """Base of middlewares: override what you need; each method does nothing but go on.

    ``next`` is the rest of the chain: call it once, and return what it gives, or something of its kind. What you
    raise instead is passed on, and so is what ``next`` raises.
    """

    def publish(self, call: Call, next: Callable[[Call], Message], /) -> Message:
        """Around the making of a message: of every call that is sent, retries, callbacks and groups included.

        The message leaves after this, in one round trip with its neighbours; for code that runs when the broker has it,
        there is the signal ``after_task_publish``. What is raised here is raised by ``delay``. Not for eager calls.
        """
        return next(call)

    async def apublish(self, call: Call, next: Callable[[Call], Awaitable[Message]], /) -> Message:
        """As ``publish``, of calls that async code sends: ``adelay``, ``aapply_async`` of tasks and canvases,
        ``asend_task``, ``asend_many``. Awaited in the event loop of who sends.

        Without it, ``publish`` is called there. A middleware that has this but no ``publish`` is run to its end by
        plain code as well, in an event loop that is not that of any caller.
        """
        return await next(call)

    def run(self, request: Request, next: Callable[[Request], Any], /) -> Any:
        """Around each run of a task that is a plain function, in the process and thread that runs it.

        Inside are ``before_start`` and the function; ``next`` gives what it returns. Retry, Ignore and Reject pass
        as exceptions. ``request.args`` and ``request.kwargs`` may be replaced.
        """
        return next(request)

    async def arun(self, request: Request, next: Callable[[Request], Awaitable[Any]], /) -> Any:
        """As ``run``, around each run of a task that is a coroutine function."""
        return await next(request)


class MiddlewareStack:
    """The middlewares of an application, outermost first: ``app.middleware``."""

    def __init__(self, app: Umbel) -> None:
        self._app = app
        self._members: tuple[Middleware, ...] = ()
        self.publishing: Publish | None = None
        """What makes a message of a call; None while no middleware cares."""
        self.apublishing: AsyncPublish | None = None
        """The same for async code; None while no middleware has ``apublish``."""

    def add(self, *middleware: Middleware) -> None:
        """Add middlewares inside of those that are there. Raises TypeError for what is none."""
        for each in middleware:
            _check(each)
        self._set((*self._members, *middleware))

    def remove(self, middleware: Middleware) -> None:
        """Raises ValueError when it was not added."""
        if middleware not in self._members:
            raise ValueError(f"{middleware!r} is not among the middlewares of {self._app!r}")
        self._set(tuple(each for each in self._members if each is not middleware))

    def __iter__(self) -> Iterator[Middleware]:
        return iter(self._members)

    def __len__(self) -> int:
        return len(self._members)

    def _set(self, members: tuple[Middleware, ...]) -> None:
        self._members = members
        self.apublishing = _async_chain(members, self._make_message)
        self.publishing = _chain(members, self._make_message, self.apublishing)
        for task in self._app.registered.values():
            task.__dict__.pop("_plan", None)

    def _make_message(self, call: Call) -> Message:
        from umbel.sending import prepare

        return prepare(self._app, call.name, call.args, call.kwargs, call.options, call.task, inside=True)

    def around(
        self, task: Task[..., Any], call: Callable[..., Any], before_start: Callable[..., None] | None
    ) -> tuple[Callable[..., Any], Callable[..., None] | None]:
        """What runs ``task`` inside of the middlewares, and what is left to be called before it.

        Raises ConfigurationError when one of them has ``run`` only and the task is a coroutine function, or the
        other way round: it would be left out without anybody knowing.
        """
        is_coroutine = inspect.iscoroutinefunction(task.run)
        wanted, other = ("arun", "run") if is_coroutine else ("run", "arun")
        concerned = [each for each in self._members if _overrides(each, "run") or _overrides(each, "arun")]
        for each in concerned:
            if not _overrides(each, wanted):
                kind = "a coroutine function" if is_coroutine else "a plain function"
                raise ConfigurationError(
                    f"the middleware {type(each).__name__} has {other}() but not {wanted}(), and task {task.name} is "
                    f"{kind}: write {wanted}() too, if only to go on"
                )
        if not concerned:
            return call, before_start
        chain = _innermost_async(call, before_start) if is_coroutine else _innermost(call, before_start)
        for each in reversed(concerned):
            chain = _around_run(getattr(each, wanted), chain)

        def run(*args: Any, **kwargs: Any) -> Any:
            return chain(current_request())

        return run, None


def _check(middleware: Any) -> None:
    if not isinstance(middleware, Middleware):
        hint = "an object of the class, not the class" if isinstance(middleware, type) else "an umbel.Middleware"
        raise TypeError(f"a middleware must be {hint}: {middleware!r}")
    name = type(middleware).__name__
    for plain, awaited in (("publish", "apublish"), ("run", "arun")):
        if inspect.iscoroutinefunction(getattr(middleware, plain)):
            raise TypeError(f"{name}.{plain} must be a plain function; the coroutine function is {awaited}")
        if not inspect.iscoroutinefunction(getattr(middleware, awaited)):
            raise TypeError(f"{name}.{awaited} must be a coroutine function")


def _overrides(middleware: Middleware, method: str) -> bool:
    return getattr(type(middleware), method) is not getattr(Middleware, method)


def _checked(middleware: Middleware, method: str, message: Any) -> Message:
    if not isinstance(message, Message):
        name = f"{type(middleware).__name__}.{method}"
        raise TypeError(f"{name} returned {message!r}: it must return the message that next() gives")
    return message


# -- around publishing -----------------------------------------------------------------------------


def _chain(members: Sequence[Middleware], make: Publish, in_loop: AsyncPublish | None) -> Publish | None:
    """What plain code calls; ``in_loop`` is what async code awaits, which plain code needs as well where a middleware
    has nothing else, or where it makes messages in a thread for async code."""
    chain: Publish | None = None
    needs_loop = False
    for each in reversed(members):
        if _overrides(each, "publish"):
            chain = _around_publish(each, chain or make)
        elif _overrides(each, "apublish"):
            needs_loop = True
    if in_loop is None:
        return chain
    from umbel.loops import is_off_the_loop, run_in_loop

    plain, awaited = chain or make, in_loop

    def publish(call: Call) -> Message:
        return run_in_loop(awaited(call)) if needs_loop or is_off_the_loop() else plain(call)

    return publish


def _async_chain(members: Sequence[Middleware], make: Publish) -> AsyncPublish | None:
    """What async code awaits. A middleware that has ``publish`` only is called in the loop's thread, unless something
    inside of it must be awaited: then in a thread of its own, to which the loop's is not lost meanwhile."""
    plain, chain = make, None
    for each in reversed(members):
        if _overrides(each, "apublish"):
            chain = _around_apublish(each, chain or _as_coroutine(plain))
        elif _overrides(each, "publish"):
            if chain is None:
                plain = _around_publish(each, plain)
            else:
                chain = _off_the_loop(each, chain)
    return chain


def _around_publish(middleware: Middleware, following: Publish) -> Publish:
    return lambda call: _checked(middleware, "publish", middleware.publish(call, following))


def _around_apublish(middleware: Middleware, following: AsyncPublish) -> AsyncPublish:
    async def publish(call: Call) -> Message:
        return _checked(middleware, "apublish", await middleware.apublish(call, following))

    return publish


def _as_coroutine(following: Publish) -> AsyncPublish:
    async def publish(call: Call) -> Message:
        return following(call)

    return publish


def _off_the_loop(middleware: Middleware, following: AsyncPublish) -> AsyncPublish:
    from umbel.loops import off_the_loop, run_in_loop

    in_thread = _around_publish(middleware, lambda call: run_in_loop(following(call)))
    return lambda call: off_the_loop(partial(in_thread, call))


# -- around running --------------------------------------------------------------------------------


def _around_run(run: Callable[..., Any], following: Callable[[Any], Any]) -> Callable[[Any], Any]:
    return lambda request: run(request, following)


def _innermost(call: Callable[..., Any], before_start: Callable[..., None] | None) -> Callable[[Any], Any]:
    def run(request: Request) -> Any:
        if before_start is not None:
            before_start(request.id, request.args, request.kwargs)
        return call(*request.args, **request.kwargs)

    return run


def _innermost_async(call: Callable[..., Any], before_start: Callable[..., None] | None) -> Callable[[Any], Any]:
    async def run(request: Request) -> Any:
        if before_start is not None:
            before_start(request.id, request.args, request.kwargs)
        return await call(*request.args, **request.kwargs)

    return run
