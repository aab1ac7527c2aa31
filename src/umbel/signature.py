"""A call of a task as data: what is to run, not yet sent. Signatures are dicts, so that any serializer writes them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, cast

from umbel.codecs.representation import safe_repr
from umbel.current import get_current_app
from umbel.errors import InvalidTaskError, UmbelError
from umbel.message import Message, new_id
from umbel.sending import prepare, publish_deadline

if TYPE_CHECKING:
    from umbel.app import Umbel
    from umbel.result import AsyncResult, GroupResult
    from umbel.task import Task


class Signature(dict[str, Any]):
    """One call: ``task`` (name), ``args``, ``kwargs``, ``options``, ``immutable``.

    Called with arguments, a mutable signature puts them in front of its own; an immutable one ignores them.
    """

    subtask_type: str | None = None
    _app: Umbel | None = None

    def __init__(
        self,
        task: str | Task[..., Any] | Mapping[str, Any] = "",
        args: Sequence[Any] | None = None,
        kwargs: Mapping[str, Any] | None = None,
        options: Mapping[str, Any] | None = None,
        *,
        immutable: bool = False,
        app: Umbel | None = None,
        **more: Any,
    ) -> None:
        if not (isinstance(task, str) or callable(task)):
            super().__init__(task)
            self["args"] = tuple(self.get("args") or ())
            self["kwargs"] = dict(self.get("kwargs") or {})
            self["options"] = dict(self.get("options") or {})
            self.setdefault("immutable", False)
            self.setdefault("subtask_type", None)
            self._app = app
            return
        super().__init__(
            task=task if isinstance(task, str) else task.name,
            args=tuple(args or ()),
            kwargs=dict(kwargs or {}),
            options={**(options or {}), **more},
            subtask_type=self.subtask_type,
            immutable=immutable,
        )
        self._app = app if app is not None or isinstance(task, str) else task.app

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
    def app(self) -> Umbel:
        return self._app or get_current_app()

    @property
    def type(self) -> Task[..., Any]:
        """The task. Raises NotRegistered when this process does not know it."""
        return self.app.tasks[self["task"]]

    # -- changing --

    def clone(self, args: Sequence[Any] = (), kwargs: Mapping[str, Any] | None = None, **options: Any) -> Signature:
        """A copy; arguments are put in front of, keywords and options over the present ones."""
        if self.immutable:
            args, kwargs = (), None
        copy = type(self)({**self, "options": {**self.options, **options}}, app=self._app)
        copy["args"] = (*args, *self.args)
        copy["kwargs"] = {**self.kwargs, **(kwargs or {})}
        return copy

    def set(self, immutable: bool | None = None, **options: Any) -> Signature:
        """Set options; returns the signature itself."""
        if immutable is not None:
            self["immutable"] = immutable
        self.options.update(options)
        return self

    def set_immutable(self, immutable: bool) -> None:
        self["immutable"] = immutable

    def link(self, callback: Mapping[str, Any]) -> Any:
        """Call ``callback`` with the result when the task has succeeded; returns it."""
        return self._append("link", callback)

    def link_error(self, errback: Mapping[str, Any]) -> Any:
        """Call ``errback`` when the task has failed; returns it."""
        return self._append("link_error", errback)

    def on_error(self, errback: Mapping[str, Any]) -> Signature:
        """As ``link_error``, but returns the signature itself."""
        self.link_error(errback)
        return self

    def _append(self, name: str, item: Any) -> Any:
        present = cast("Any", self.options.get(name) or [])
        links: list[Any] = [present] if isinstance(present, Mapping) else list(present)
        self.options[name] = links
        if item not in links:
            links.append(item)
        return item

    def freeze(self, task_id: str | None = None) -> AsyncResult[Any]:
        """Give the task its id now; returns the result that it will have."""
        frozen: str = self.options.setdefault("task_id", task_id or new_id())
        return self.app.AsyncResult(frozen)

    # -- running --

    def messages(self, app: Umbel, args: Sequence[Any] = (), **options: Any) -> tuple[list[Message], Any]:
        """The messages of this call, and its result; nothing is sent."""
        own, name = self["args"], self["task"]
        merged = {**self["options"], **options} if options else self["options"]
        task = app.tasks.get(name)
        message = prepare(
            app, name, own if not args or self["immutable"] else (*args, *own), self["kwargs"], merged, task
        )
        result = task.AsyncResult(message.id) if task is not None else app.AsyncResult(message.id)
        app.adopt(result, merged)
        return [message], result

    def apply_async(
        self, args: Sequence[Any] | None = None, kwargs: Mapping[str, Any] | None = None, **options: Any
    ) -> Any:
        """Send it, with further arguments and options."""
        call = self.clone(args or (), kwargs, **options)
        task = self.app.tasks.get(self["task"])
        if task is not None:
            return task.apply_async(call.args, call.kwargs, **call.options)
        return self.app.send_task(self["task"], call.args, call.kwargs, **call.options)

    def delay(self, *args: Any, **kwargs: Any) -> Any:
        """Send it, with further arguments."""
        return self.apply_async(args, kwargs)

    def apply(self, args: Sequence[Any] = (), kwargs: Mapping[str, Any] | None = None, **options: Any) -> Any:
        """Run it here and now."""
        call = self.clone(args, kwargs, **options)
        return self.type.apply(call.args, call.kwargs, **call.options)

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Call the task's function, without any message."""
        call = self.clone(args, kwargs)
        return self.type(*call.args, **call.kwargs)

    def __invert__(self) -> Any:
        return self.apply_async().get()

    def __json__(self) -> dict[str, Any]:
        return dict(self)

    def __reduce__(self) -> Any:
        return signature, (dict(self),)

    def __repr__(self) -> str:
        shown = [repr(arg) for arg in self.args] + [f"{key}={value!r}" for key, value in self.kwargs.items()]
        return f"{self['task']}({', '.join(shown)})"

    @staticmethod
    def from_dict(data: Mapping[str, Any], app: Umbel | None = None) -> Signature:
        return signature(data, app=app)


class group(Signature):
    """Calls that run at the same time; sent in one round trip."""

    subtask_type = "group"

    def __init__(self, *tasks: Any, app: Umbel | None = None, **options: Any) -> None:
        if len(tasks) == 1 and _is_group(tasks[0]):
            super().__init__(cast("Mapping[str, Any]", tasks[0]), app=app)
            members = self.kwargs["tasks"]
        else:
            members = tasks[0] if len(tasks) == 1 and not isinstance(tasks[0], Mapping) else tasks
            super().__init__("celery.group", options=options, app=app)
        self.kwargs["tasks"] = [maybe_signature(member, app=app) for member in members]
        if app is None and self.tasks:
            self._app = self.tasks[0]._app

    @property
    def tasks(self) -> list[Signature]:
        return self.kwargs["tasks"]

    def clone(self, args: Sequence[Any] = (), kwargs: Mapping[str, Any] | None = None, **options: Any) -> group:
        members = [member.clone(args, kwargs) for member in self.tasks]
        return group(members, app=self._app, **{**self.options, **options})

    def messages(self, app: Umbel, args: Sequence[Any] = (), **options: Any) -> tuple[list[Message], Any]:
        shared = {**self.options, **options}
        group_id = shared.pop("task_id", None) or new_id()
        add_to_parent = shared.pop("add_to_parent", True)
        found: list[Message] = []
        results: list[Any] = []
        for index, member in enumerate(self.tasks):
            place = {"group_id": group_id, "group_index": index, "add_to_parent": False}
            messages, result = member.messages(app, args, **{**shared, **member.options, **place})
            found += messages
            results.append(result)
        result = app.GroupResult(group_id, results)
        app.adopt(result, {"add_to_parent": add_to_parent})
        return found, result

    def apply_async(
        self, args: Sequence[Any] | None = None, kwargs: Mapping[str, Any] | None = None, **options: Any
    ) -> GroupResult:
        app = self.app
        if app.conf.task_always_eager:
            return self.apply(args or (), kwargs, **options)
        call = self.clone(args or (), kwargs, **options)
        messages, result = call.messages(app)
        if messages:
            app.publish(messages, publish_deadline(app, options))
        return result

    def apply(self, args: Sequence[Any] = (), kwargs: Mapping[str, Any] | None = None, **options: Any) -> GroupResult:
        app = self.app
        return app.GroupResult(new_id(), [member.apply(args, kwargs, **options) for member in self.tasks])

    def __call__(self, *args: Any, **kwargs: Any) -> GroupResult:
        return self.apply_async(args, kwargs)

    def __len__(self) -> int:
        return len(self.tasks)

    def __bool__(self) -> bool:
        return True

    def __iter__(self) -> Any:
        return super().__iter__()

    def __repr__(self) -> str:
        return f"group({self.tasks!r})"


def _is_group(data: Any) -> bool:
    return isinstance(data, Mapping) and cast("Mapping[str, Any]", data).get("subtask_type") == "group"


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

    Raises UmbelError for data of a kind that this version cannot run, InvalidTaskError for data that names no task.
    """
    if not isinstance(task, Mapping):
        return Signature(task, args, kwargs, options, app=app, **more)
    if isinstance(task, Signature):
        return task
    if not isinstance(task.get("task"), str):
        raise InvalidTaskError(f"a signature names its task, this one does not: {safe_repr(task)}")
    kind = task.get("subtask_type")
    if kind == "group":
        return group(task, app=app)
    if kind is not None:
        raise UmbelError(f"a signature of type {kind!r} ({task.get('task')}) cannot be run by this version")
    return Signature(task, app=app)


def maybe_signature(data: Any, app: Umbel | None = None) -> Any:
    """``data`` as a signature if it is one as data; otherwise unchanged."""
    if isinstance(data, Mapping) and "task" in data:
        return signature(cast("Mapping[str, Any]", data), app=app)
    return cast("Any", data)


def send_many(app: Umbel, signatures: Iterable[Mapping[str, Any]], **options: Any) -> list[Any]:
    """Send many calls in one round trip; their results in the same order."""
    messages: list[Message] = []
    results: list[Any] = []
    for item in signatures:
        call = item if isinstance(item, Signature) else signature(item, app=app)
        made, result = call.messages(app, **options)
        messages += made
        results.append(result)
    if messages:
        return _publish_many(app, messages, results, publish_deadline(app, options))
    return results


def _publish_many(app: Umbel, messages: list[Message], results: list[Any], timeout: float) -> list[Any]:
    """The results of messages sent; those of unique tasks whose keys other calls have are the results of these."""
    tasks = app.tasks
    if not any((task := tasks.get(message.task)) is not None and task.unique for message in messages):
        app.publish(messages, timeout)
        return results
    from umbel.limits.unique import publish_unique

    existing = publish_unique(app, messages, timeout)
    return [app.AsyncResult(existing[result.id]) if result.id in existing else result for result in results]
