"""Functions and classes made into tasks of an application, and the types of the decorators that do it."""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Mapping
from typing import TYPE_CHECKING, Any, Concatenate, ParamSpec, Protocol, TypeVar, overload

from umbel.discovery import set_options
from umbel.errors import ConfigurationError
from umbel.naming import names_of
from umbel.task import Task

if TYPE_CHECKING:
    from umbel.app import Umbel
    from umbel.task import AsyncTask

P = ParamSpec("P")
R = TypeVar("R")


class TaskDecorator(Protocol):
    """``@app.task(…)``: makes a task of a function."""

    @overload
    def __call__(self, function: Callable[P, Coroutine[Any, Any, R]], /) -> AsyncTask[P, R]: ...
    @overload
    def __call__(self, function: Callable[P, R], /) -> Task[P, R]: ...


class BoundTaskDecorator(Protocol):
    """``@app.task(bind=True, …)``: the function's first parameter is the task itself."""

    @overload
    def __call__(self, function: Callable[Concatenate[Any, P], Coroutine[Any, Any, R]], /) -> AsyncTask[P, R]: ...
    @overload
    def __call__(self, function: Callable[Concatenate[Any, P], R], /) -> Task[P, R]: ...


_COPIED = ("__module__", "__name__", "__qualname__", "__doc__", "__annotations__")


def make_task(
    app: Umbel,
    function: Callable[..., Any],
    *,
    name: str | None = None,
    base: type[Task[..., Any]] | None = None,
    bind: bool = False,
    filter: Callable[[Any], Any] | None = None,
    lazy: bool = True,
    shared: bool = True,
    **options: Any,
) -> Any:
    """The task of ``function``, registered; the present one if its name is taken.

    Options are attributes of ``Task``; ``lazy`` and ``shared`` have no effect.
    """
    name = name or app.gen_task_name(*names_of(function))
    task = app.registered.get(name)
    if task is None:
        task = (base or app.Task)()
        run = function.__get__(task) if bind else function
        copied = {attribute: getattr(function, attribute) for attribute in _COPIED if hasattr(function, attribute)}
        task.__dict__.update(copied, run=run, __wrapped__=run)
        add_task(app, task, name, options)
    return filter(task) if filter is not None else task


def check_limits(task: Task[..., Any]) -> None:
    """Raise ConfigurationError for limits of a task that cannot be kept."""
    from umbel.limits.holds import concurrency_limit
    from umbel.limits.unique import unique_rule

    concurrency_limit(task)
    unique_rule(task)


def add_task(app: Umbel, task: Task[..., Any], name: str, options: Mapping[str, Any]) -> None:
    """Register a task object under ``name``. Raises ConfigurationError for options that cannot be kept."""
    if options.get("backend") is not None:
        raise ConfigurationError(f"task {name} asks for a result backend of its own; there is one for the application")
    task.name = name
    task.app = app
    classes = {key: getattr(task, key) for key in ("autoretry_for", "dont_autoretry_for", "throws")}
    set_options(task, {**classes, **options})
    if task.max_concurrency is not None or task.concurrency_key is not None or task.unique:
        check_limits(task)
    app.registered[name] = task
    if app.finalized:
        app.bind_task(task)
