"""The tasks of an application by name, and the shared tasks that every application gets."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from typing import TYPE_CHECKING, Any, Literal, ParamSpec, TypeVar, cast, overload

from umbel.current import get_current_app
from umbel.errors import NotRegistered
from umbel.naming import default_name

if TYPE_CHECKING:
    from umbel.app import Umbel
    from umbel.decorating import BoundTaskDecorator, TaskDecorator
    from umbel.task import AsyncTask, Task

P = ParamSpec("P")
R = TypeVar("R")


class TaskRegistry(dict[str, "Task[..., Any]"]):
    """Tasks by name. ``registry[name]`` raises NotRegistered for a name that nobody has."""

    NotRegistered = NotRegistered

    def __missing__(self, name: str) -> Task[..., Any]:
        raise NotRegistered(name)

    def register(self, task: Task[..., Any]) -> None:
        """Add a task under its name, in place of another one of that name."""
        self[task.name] = task

    def unregister(self, name: str | Task[..., Any]) -> None:
        """Remove a task, or the one of this name. Raises NotRegistered."""
        found = name if isinstance(name, str) else name.name
        if self.pop(found, None) is None:
            raise NotRegistered(found)


_shared: list[Callable[[Umbel], Task[..., Any]]] = []


def share(make: Callable[[Umbel], Task[..., Any]]) -> None:
    """Let every application, present and future, make a task for itself when it is finalized."""
    from umbel.app import live_apps

    _shared.append(make)
    for app in live_apps():
        if app.finalized:
            make(app)


def shared_makers() -> tuple[Callable[[Umbel], Task[..., Any]], ...]:
    return tuple(_shared)


class SharedTask:
    """Stands for the current application's task of one name."""

    def __init__(self, name: str, function: Callable[..., Any]) -> None:
        self._shared_name = name
        self.__wrapped__ = function
        self.__doc__ = function.__doc__

    def _get_current_object(self) -> Task[..., Any]:
        return get_current_app().tasks[self._shared_name]

    @property
    def __class__(self) -> type[Any]:  # pyright: ignore[reportIncompatibleMethodOverride]
        return type(self._get_current_object())

    def __getattr__(self, attribute: str) -> Any:
        return getattr(self._get_current_object(), attribute)

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        return self._get_current_object()(*args, **kwargs)

    def __reduce__(self) -> tuple[Any, ...]:
        return self._get_current_object().__reduce__()

    def __repr__(self) -> str:
        return f"<shared {self._shared_name}>"


@overload
def shared_task(function: Callable[P, Coroutine[Any, Any, R]], /) -> AsyncTask[P, R]: ...
@overload
def shared_task(function: Callable[P, R], /) -> Task[P, R]: ...
@overload
def shared_task(*, bind: Literal[True], **options: Any) -> BoundTaskDecorator: ...
@overload
def shared_task(*, bind: Literal[False] = False, **options: Any) -> TaskDecorator: ...
def shared_task(*args: Any, **options: Any) -> Any:
    """A task that is made for every application; the name in the module stands for the current one's."""

    def decorate(function: Callable[..., Any]) -> SharedTask:
        explicit = cast("str | None", options.get("name"))
        if explicit is None and function.__module__ != "__main__":
            explicit = default_name(function, None)
        name = explicit or default_name(function, get_current_app().main)
        share(lambda app: app.make_task(function, **{**options, "name": name}))
        return SharedTask(name, function)

    if len(args) == 1 and callable(args[0]) and not options:
        return decorate(args[0])
    return decorate
