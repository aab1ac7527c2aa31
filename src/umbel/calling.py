"""The calls of a task: sent, run here, or written down as data. The lower half of :class:`umbel.task.Task`."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Concatenate, Generic, ParamSpec, TypeVar, cast, overload

from umbel import result
from umbel.options import TaskOptions
from umbel.publishing import send
from umbel.sending import aprepare, defaults_of, prepare, publish_deadline
from umbel.validation import Checker, compile_checker

if TYPE_CHECKING:
    from typing import Unpack

    from umbel.app import Umbel
    from umbel.canvas.maps import chunks, xmap, xstarmap
    from umbel.canvas.signature import Signature
    from umbel.result import AsyncResult, EagerResult
    from umbel.sending import SendOptions
    from umbel.task import Task

P = ParamSpec("P")
Q = ParamSpec("Q")
R = TypeVar("R")
A = TypeVar("A")
B = TypeVar("B")


class CallableTask(TaskOptions, Generic[P, R]):
    """A task as those see it who call it. ``Task[P, R]`` is what it really is."""

    name: str = ""
    app: Umbel

    _checker: Checker | None = None
    _send_defaults: dict[str, Any] | None = None

    @property
    def _whole(self) -> Task[P, R]:
        """The task with all that it can do."""
        return cast("Task[P, R]", self)

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
        app, task = self.app, cast("Task[P, R]", self)
        given = self._options(args, kwargs, task_id, link, link_error, shadow, options)
        if app.conf.task_always_eager:
            return self._apply_instead(args, kwargs, given)
        message = app.templates.message(self.name, args, kwargs, given, task)
        sent = self.AsyncResult(send(app, task, message, publish_deadline(app, given)))
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

        app, task = self.app, cast("Task[P, R]", self)
        given = self._options(args, kwargs, task_id, link, link_error, shadow, options)
        if app.conf.task_always_eager:
            return await asyncio.to_thread(self._apply_instead, args, kwargs, given)
        message = await aprepare(app, self.name, args, kwargs, given, task)
        sent = self.AsyncResult(await asyncio.to_thread(send, app, task, message, publish_deadline(app, given)))
        app.adopt(sent, given)
        return sent

    def release_unique(self, *args: P.args, **kwargs: P.kwargs) -> bool:
        """Free the unique key of a call with these arguments, whoever has it, as after a purge; whether anybody had."""
        from umbel.limits.unique import release_unique

        return release_unique(self._whole, prepare(self.app, self.name, args, kwargs, {}, self._whole))

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
        from umbel.eager import as_sent

        args, kwargs = as_sent(self._whole, args, kwargs, options)
        done = self.apply(args, kwargs, **options)
        self.app.adopt(done, options)
        return done

    def check_arguments(self, args: Sequence[Any] | None, kwargs: Mapping[str, Any] | None) -> None:
        """Raise TypeError if the function cannot be called with these arguments, unless ``typing`` is off."""
        checker = self._checker
        if checker is None:
            checker = self._checker = compile_checker(self._whole)
        checker(*(args or ()), **(kwargs or {}))

    def send_defaults(self) -> dict[str, Any]:
        """The execution options that the task's attributes give."""
        if self._send_defaults is None:
            self._send_defaults = defaults_of(self._whole)
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
        return apply(self._whole, args, kwargs, task_id=task_id, retries=retries or 0, throw=throw, options=given)

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

        return Signature(self._whole, args, kwargs, options, app=self.app, **more)

    subtask = signature

    @overload
    def s(self: CallableTask[Concatenate[A, Q], R], *args: Q.args, **kwargs: Q.kwargs) -> Signature[[A], R]: ...
    @overload
    def s(self, *args: P.args, **kwargs: P.kwargs) -> Signature[[], R]: ...
    @overload
    def s(self: CallableTask[Concatenate[A, B, Q], R], *args: Q.args, **kwargs: Q.kwargs) -> Signature[[A, B], R]: ...
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
