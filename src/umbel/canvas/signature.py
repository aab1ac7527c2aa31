"""A call of a task as data: what is to run, not yet sent. Signatures are dicts, so that any serializer writes them.

For type checkers a signature is generic over what it still takes and over what it returns: ``add.s(1)`` of
``add(x: int, y: int) -> str`` is a ``Signature[[int], str]``, and ``Signature`` alone is one of unknown types.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from copy import deepcopy
from typing import TYPE_CHECKING, Any, ClassVar, Generic, Literal, NoReturn, Self, cast, overload

from umbel.canvas import stamping
from umbel.codecs.representation import safe_repr
from umbel.current import get_current_app
from umbel.errors import InvalidTaskError
from umbel.message import Message, new_id
from umbel.result import AsyncResult as Result
from umbel.sending import publish_deadline

if TYPE_CHECKING:
    from typing_extensions import ParamSpec, TypeVar

    from umbel.app import Umbel
    from umbel.canvas.chain import chain
    from umbel.task import Task

    P = ParamSpec("P", default=...)
    R = TypeVar("R", default=Any, covariant=True)
    M = TypeVar("M", default=Any)
else:
    from typing import ParamSpec, TypeVar

    P = ParamSpec("P")
    R = TypeVar("R", covariant=True)
    M = TypeVar("M")

S = TypeVar("S", bound="Signature")
T = TypeVar("T")


class Signature(dict[str, Any], Generic[P, R]):
    """One call: ``task`` (name), ``args``, ``kwargs``, ``options``, ``immutable``.

    Called with arguments, a mutable signature puts them in front of its own; an immutable one ignores them.
    """

    subtask_type: str | None = None
    TYPES: ClassVar[dict[str, type[Signature]]] = {}
    """The classes of signatures that are more than one call, by ``subtask_type``."""
    _app: Umbel | None = None

    @classmethod
    def register_type(cls, name: str | None = None) -> Callable[[type[S]], type[S]]:
        """A class decorator: signatures as data with this ``subtask_type`` become objects of the class."""

        def register(subclass: type[S]) -> type[S]:
            cls.TYPES[name or subclass.__name__] = subclass
            return subclass

        return register

    def __init__(
        self,
        task: str | Task[..., Any] | Mapping[str, Any] = "",
        args: Sequence[Any] | None = None,
        kwargs: Mapping[str, Any] | None = None,
        options: Mapping[str, Any] | None = None,
        type: Task[..., Any] | None = None,
        subtask_type: str | None = None,
        immutable: bool = False,
        app: Umbel | None = None,
        **more: Any,
    ) -> None:
        if type is not None:
            task, app = task or type.name, app or type.app
        if not (isinstance(task, str) or callable(task)):
            super().__init__(task)
            self["args"] = tuple(self.get("args") or ())
            self["kwargs"] = dict(self.get("kwargs") or {})
            self["options"] = dict(self.get("options") or {})
            self.setdefault("immutable", False)
            self.setdefault("subtask_type", None)
            self._app = app
            return
        named = isinstance(task, str)
        self["task"] = task if named else task.name
        self["args"] = tuple(args) if args else ()
        self["kwargs"] = dict(kwargs) if kwargs else {}
        self["options"] = {**options, **more} if options else more
        self["subtask_type"] = subtask_type or self.subtask_type
        self["immutable"] = immutable
        self._app = app if app is not None or named else task.app

    # -- parts --

    @property
    def task(self) -> str:
        return self["task"]

    @property
    def args(self) -> tuple[Any, ...]:
        return self["args"]

    @property
    def kwargs(self) -> dict[str, Any]:
        return self["kwargs"]

    @property
    def options(self) -> dict[str, Any]:
        return self["options"]

    @property
    def immutable(self) -> bool:
        return self["immutable"]

    @property
    def id(self) -> str | None:
        """The id that the task will have, once frozen."""
        return self.options.get("task_id")

    @property
    def name(self) -> str:
        """The name of the task."""
        return self["task"]

    @property
    def root_id(self) -> str | None:
        return self.options.get("root_id")

    @property
    def parent_id(self) -> str | None:
        return self.options.get("parent_id")

    @property
    def app(self) -> Umbel:
        return self._app or get_current_app()

    @property
    def own_app(self) -> Umbel | None:
        """The application that it was made for; None: the current one."""
        return self._app

    @property
    def type(self) -> Task[..., Any]:
        """The task. Raises NotRegistered when this process does not know it."""
        return self.app.tasks[self["task"]]

    @property
    def AsyncResult(self) -> Callable[[str], Result[R]]:
        """``signature.AsyncResult(id)``: the result of a call by its id, as this task has it where it is known here."""
        task = self.app.find_task(self["task"])
        return self.app.AsyncResult if task is None else task.AsyncResult

    # -- changing --

    def clone(
        self, args: Sequence[Any] = (), kwargs: Mapping[str, Any] | None = None, **options: Any
    ) -> Signature[..., R]:
        """A copy; arguments are put in front of, keywords and options over the present ones."""
        copy = _copied(self)
        if options:
            copy["options"].update(options)
        if args and not self["immutable"]:
            copy["args"] = (*args, *self["args"])
        if kwargs and not self["immutable"]:
            copy["kwargs"].update(kwargs)
        return copy

    partial = clone

    def replace(
        self,
        args: Sequence[Any] | None = None,
        kwargs: Mapping[str, Any] | None = None,
        options: Mapping[str, Any] | None = None,
    ) -> Signature[..., R]:
        """A copy with other arguments, keywords or options in place of its own, where given."""
        copy = self.clone()
        for name, value in (("args", args), ("kwargs", kwargs), ("options", options)):
            if value is not None:
                copy[name] = tuple(value) if name == "args" else dict(cast("Mapping[str, Any]", value))
        return copy

    @overload
    def set(self, immutable: Literal[True], **options: Any) -> Signature[..., R]: ...
    @overload
    def set(self, immutable: bool | None = None, **options: Any) -> Self: ...
    def set(self, immutable: bool | None = None, **options: Any) -> Any:
        """Set options; returns the signature itself."""
        if immutable is not None:
            self["immutable"] = immutable
        self.options.update(options)
        return self

    def set_immutable(self, immutable: bool) -> None:
        self["immutable"] = immutable

    def link(self, callback: Mapping[str, Any]) -> Any:
        """Call ``callback`` with the result when the task has succeeded; returns it."""
        return self.append_to_list_option("link", callback)

    def link_error(self, errback: Mapping[str, Any]) -> Any:
        """Call ``errback`` when the task has failed; returns it."""
        return self.append_to_list_option("link_error", errback)

    def on_error(self, errback: Mapping[str, Any]) -> Self:
        """As ``link_error``, but returns the signature itself."""
        self.link_error(errback)
        return self

    def append_to_list_option(self, key: str, value: Any) -> Any:
        """Add ``value`` to an option that is a list, unless it is in; returns it."""
        present = cast("Any", self.options.get(key) or [])
        links: list[Any] = [present] if isinstance(present, Mapping) else list(present)
        self.options[key] = links
        if value not in links:
            links.append(value)
        return value

    def extend_list_option(self, key: str, value: Any) -> None:
        """Add one value or several to an option that is a list."""
        values: list[Any] = list(cast("Iterable[Any]", value)) if isinstance(value, (list, tuple)) else [value]
        for each in values:
            self.append_to_list_option(key, each)

    def stamp(
        self, visitor: stamping.StampingVisitor | None = None, append_stamps: bool = False, **headers: Any
    ) -> Self:
        """Stamp it, all calls in it, and what is linked to them, with ``headers`` and what ``visitor`` says.

        Stamps arrive as ``task.request.stamps``; tasks are revoked by them (``app.control.revoke_by_stamped_headers``).
        Where there is a stamp of a name already the new one takes its place; with ``append_stamps`` both are kept, as
        a list. Returns the signature itself.
        """
        stamping.stamp_single(self, visitor, append_stamps, headers)
        return self

    def stamp_links(
        self, visitor: stamping.StampingVisitor | None, append_stamps: bool = False, **headers: Any
    ) -> None:
        """Stamp only what is linked to it."""
        stamping.stamp_links(self, visitor, append_stamps, headers)

    def flatten_links(self) -> list[Any]:
        """This signature and all callbacks that follow from it."""
        found: list[Any] = []
        left: list[Any] = [self]
        while left:
            call = left.pop()
            found.append(call)
            links = maybe_signature(call, self._app).options.get("link") or ()
            left += [links] if isinstance(links, Mapping) else reversed(list(links))
        return found

    def freeze(
        self,
        _id: str | None = None,
        group_id: str | None = None,
        chord: Any = None,
        root_id: str | None = None,
        parent_id: str | None = None,
        group_index: int | None = None,
    ) -> Any:
        """Give the call its id, and its place in a group or chord, now; returns the result that it will have."""
        app, options = self.app, self["options"]
        frozen: str | None = options.get("task_id")
        if frozen is None:
            frozen = options["task_id"] = _id or new_id()
        if not options.get("reply_to"):
            options["reply_to"] = app.reply_address()
        if root_id is not None:
            options["root_id"] = root_id
        if parent_id is not None:
            options["parent_id"] = parent_id
        if group_id is not None:
            options["group_id"] = group_id
        if group_index is not None:
            options["group_index"] = group_index
        if chord is not None:
            options["chord"] = chord
        result: Result[R] = Result(frozen, app=app)
        return result

    @property
    def frozen_id(self) -> str | None:
        """The id under which the result will be found, once frozen."""
        return self.options.get("task_id")

    # -- composing --

    def __or__(self, other: Signature[[R], T]) -> chain[P, T]:  # pyright: ignore[reportIncompatibleMethodOverride]
        from umbel.canvas.chain import joined

        return joined(self, other)

    if TYPE_CHECKING:

        def __ror__(self, value: NoReturn) -> NoReturn: ...  # pyright: ignore[reportIncompatibleMethodOverride]

    def __invert__(self) -> R:
        """Send it and wait for its result."""
        return self.apply_async().get()

    # -- running --

    def emit(self, app: Umbel, args: Sequence[Any] = (), **options: Any) -> Iterator[Message]:
        """The messages of this call one by one; a canvas is frozen already, and must not be used again."""
        yield from self.messages(app, args, **options)[0]

    def messages(self, app: Umbel, args: Sequence[Any] = (), **options: Any) -> tuple[list[Message], Any]:
        """The messages of this call, and its result; nothing is sent."""
        own, name = self["args"], self["task"]
        merged = {**self["options"], **options} if options else self["options"]
        task = app.tasks.get(name)
        given = own if not args or self["immutable"] else (*args, *own)
        message = app.templates.message(name, given, self["kwargs"], merged, task)
        result = task.AsyncResult(message.id) if task is not None else app.AsyncResult(message.id)
        app.adopt(result, merged)
        return [message], result

    def apply_async(
        self, args: Sequence[Any] | None = None, kwargs: Mapping[str, Any] | None = None, **options: Any
    ) -> Result[R]:
        """Send it, with further arguments and options."""
        call = self.clone(args or (), kwargs, **options)
        task = self.app.tasks.get(self["task"])
        if task is not None:
            return task.apply_async(call.args, call.kwargs, **call.options)
        return self.app.send_task(self["task"], call.args, call.kwargs, **call.options)

    def delay(self, *args: Any, **kwargs: Any) -> Result[R]:
        """Send it, with further arguments."""
        return self.apply_async(args, kwargs)

    async def aapply_async(
        self, args: Sequence[Any] | None = None, kwargs: Mapping[str, Any] | None = None, **options: Any
    ) -> Result[R]:
        """As ``apply_async``; the event loop is not blocked meanwhile."""
        call = self.clone(args or (), kwargs, **options)
        task = self.app.tasks.get(self["task"])
        if task is not None:
            return await task.aapply_async(call.args, call.kwargs, **call.options)
        return await self.app.asend_task(self["task"], call.args, call.kwargs, **call.options)

    async def adelay(self, *args: Any, **kwargs: Any) -> Result[R]:
        """As ``delay``; the event loop is not blocked meanwhile."""
        return await self.aapply_async(args, kwargs)

    def apply(self, args: Sequence[Any] = (), kwargs: Mapping[str, Any] | None = None, **options: Any) -> Any:
        """Run it here and now."""
        call = self.clone(args, kwargs, **options)
        return self.type.apply(call.args, call.kwargs, **call.options)

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Call the task's function, without any message."""
        call = self.clone(args, kwargs)
        return self.type(*call.args, **call.kwargs)

    def election(self) -> Result[R]:
        """Have it run by one worker. In Celery the workers elect one; here the queue gives it to one anyway."""
        return self.apply_async()

    def __copy__(self) -> Signature[..., R]:
        return self.clone()

    def __deepcopy__(self, memo: dict[int, Any]) -> Signature[..., R]:
        return signature(deepcopy(dict(self), memo), app=self._app)

    def __json__(self) -> dict[str, Any]:
        return dict(self)

    def __reduce__(self) -> Any:
        return signature, (dict(self),)

    def __repr__(self) -> str:
        shown = [repr(arg) for arg in self.args] + [f"{key}={value!r}" for key, value in self.kwargs.items()]
        return f"{self['task']}({', '.join(shown)})"

    @classmethod
    def from_dict(cls, d: Mapping[str, Any], app: Umbel | None = None) -> Signature:
        """A signature of this class, or of the kind that the data is, from data."""
        return signature(d, app=app)

    def reprcall(self, *args: Any, **kwargs: Any) -> str:
        """The call as text, with these further arguments."""
        return repr(self.clone(args, kwargs))


def _copied(call: S) -> S:
    copy = dict.__new__(type(call))
    copy.update(call)
    copy["kwargs"] = dict(call["kwargs"])
    copy["options"] = dict(call["options"])
    copy._app = call._app  # pyright: ignore[reportPrivateUsage] - a part of the class, which subclasses cannot change
    return copy


def signature(
    task: str | Task[..., Any] | Mapping[str, Any],
    args: Sequence[Any] | None = None,
    kwargs: Mapping[str, Any] | None = None,
    options: Mapping[str, Any] | None = None,
    *,
    app: Umbel | None = None,
    **more: Any,
) -> Signature:
    """A signature from a task, its name, or a signature as data.

    Raises InvalidTaskError for data that names no task, or is of a kind that does not exist.
    """
    if not isinstance(task, Mapping):
        return Signature(task, args, kwargs, options, app=app, **more)
    if isinstance(task, Signature):
        return cast("Signature", task)
    if not isinstance(task.get("task"), str):
        raise InvalidTaskError(f"a signature names its task, this one does not: {safe_repr(task)}")
    kind = task.get("subtask_type")
    if kind is None:
        return Signature(task, app=app)

    if kind not in Signature.TYPES:
        raise InvalidTaskError(f"a signature of a type that does not exist: {kind!r} ({task.get('task')})")
    return Signature.TYPES[kind].from_dict(task, app=app)


subtask = signature


def maybe_signature(data: Any, app: Umbel | None = None, clone: bool = False) -> Any:
    """``data`` as a signature if it is one as data, a copy of it with ``clone``; otherwise unchanged."""
    if isinstance(data, Mapping) and "task" in data:
        found = signature(cast("Mapping[str, Any]", data), app=app)
        return found.clone() if clone and found is data else found
    return cast("Any", data)


def send_many(app: Umbel, signatures: Iterable[Mapping[str, Any]], **options: Any) -> list[Any]:
    """Send many calls in one round trip; their results in the same order."""
    messages: list[Message] = []
    results: list[Any] = []
    for item in signatures:
        call = cast("Signature", item) if isinstance(item, Signature) else signature(item, app=app)
        made, result = call.messages(app, **options)
        messages += made
        results.append(result)
    if messages:
        return _publish_many(app, messages, results, publish_deadline(app, options))
    return results


def _publish_many(app: Umbel, messages: list[Message], results: list[Any], timeout: float) -> list[Any]:
    """The results of messages sent; those of unique tasks whose keys other calls have are the results of these."""
    tasks = app.tasks
    names = {message.task for message in messages}
    if not any((task := tasks.get(name)) is not None and task.unique for name in names):
        app.publish(messages, timeout)
        return results
    from umbel.limits.unique import publish_unique

    existing = publish_unique(app, messages, timeout)
    return [app.AsyncResult(existing[result.id]) if result.id in existing else result for result in results]
