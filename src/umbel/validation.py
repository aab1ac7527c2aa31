"""Arguments checked against a task's function: their number and names when it is called, their types when it runs.

The check at call time is a function compiled once per task with the same parameters and an empty body, so that Python
itself does the binding. Types are checked in the executor: by pydantic (``pydantic=True``) or msgspec
(``validate=True``).
"""

from __future__ import annotations

import functools
import inspect
import types
import typing
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Union

if TYPE_CHECKING:
    from umbel.task import Task

Checker = Callable[..., None]


def anything(*args: Any, **kwargs: Any) -> None:
    """The checker of tasks that are not checked."""


def compile_checker(task: Task[..., Any]) -> Checker:
    """A function that raises TypeError for arguments which ``task.run`` cannot be called with."""
    typed = task.typing if task.typing is not None else task.app.strict_typing
    if not typed:
        return anything
    try:
        parameters = list(inspect.signature(task.run).parameters.values())
    except (TypeError, ValueError):
        return anything
    name = getattr(task.run, "__name__", "run")
    source = f"def check({_parameter_list(parameters)}): pass"
    namespace: dict[str, Any] = {}
    exec(compile(source, f"<arguments of {task.name}>", "exec"), namespace)
    check = namespace["check"]
    check.__name__ = check.__qualname__ = name
    return check


def _parameter_list(parameters: list[inspect.Parameter]) -> str:
    kinds = inspect.Parameter
    parts: list[str] = []
    previous = kinds.POSITIONAL_ONLY
    for parameter in parameters:
        kind = parameter.kind
        if previous == kinds.POSITIONAL_ONLY and kind != kinds.POSITIONAL_ONLY and parts:
            parts.append("/")
        if kind == kinds.KEYWORD_ONLY and previous not in (kinds.KEYWORD_ONLY, kinds.VAR_POSITIONAL):
            parts.append("*")
        star = {kinds.VAR_POSITIONAL: "*", kinds.VAR_KEYWORD: "**"}.get(kind, "")
        default = "=None" if parameter.default is not kinds.empty else ""
        parts.append(f"{star}{parameter.name}{default}")
        previous = kind
    if previous == kinds.POSITIONAL_ONLY and parts:
        parts.append("/")
    return ", ".join(parts)


def validated(task: Task[..., Any]) -> Callable[..., Any]:
    """``task.run``, wrapped as the options ``pydantic`` and ``validate`` ask."""
    run = task.run
    if task.pydantic:
        return _with_pydantic(task, run)
    if task.validate:
        return _with_msgspec(task, run)
    return run


def _hints(function: Callable[..., Any]) -> dict[str, Any]:
    return typing.get_type_hints(inspect.unwrap(getattr(function, "__func__", function)))


def _converting(
    function: Callable[..., Any], convert: dict[str, Callable[[Any], Any]], returned: Callable[[Any], Any]
) -> Callable[..., Any]:
    """``function`` with some arguments converted first, by name, and its value last."""
    signature = inspect.signature(function)

    def bind(args: Any, kwargs: Any) -> inspect.BoundArguments:
        bound = signature.bind(*args, **kwargs)
        for name, value in bound.arguments.items():
            if name in convert:
                bound.arguments[name] = convert[name](value)
        return bound

    if inspect.iscoroutinefunction(function):

        @functools.wraps(function)
        async def call_async(*args: Any, **kwargs: Any) -> Any:
            bound = bind(args, kwargs)
            return returned(await function(*bound.args, **bound.kwargs))

        return call_async

    @functools.wraps(function)
    def call(*args: Any, **kwargs: Any) -> Any:
        bound = bind(args, kwargs)
        return returned(function(*bound.args, **bound.kwargs))

    return call


def _with_pydantic(task: Task[..., Any], run: Callable[..., Any]) -> Callable[..., Any]:
    """Arguments annotated with models become models; a returned model becomes a dict. Raises ValueError naming the
    argument that does not fit, MissingExtra."""
    try:
        from pydantic import BaseModel, ValidationError
    except ImportError as error:
        from umbel.errors import MissingExtra

        raise MissingExtra(f"pydantic=True of task {task.name}", "pydantic") from error

    context = {**(task.pydantic_context or {}), "celery_app": task.app, "celery_task_name": task.name}
    dump_kwargs: dict[str, Any] = {"mode": "json", **(task.pydantic_dump_kwargs or {})}

    def validator(name: str, model: type[BaseModel]) -> Callable[[Any], Any]:
        def validate(value: Any) -> Any:
            if value is None:
                return None
            try:
                return model.model_validate(value, strict=task.pydantic_strict, context=context)
            except ValidationError as error:
                # pydantic's own error has no args, so that nothing of it would reach whoever asks for the result
                raise ValueError(f"argument {name!r} of task {task.name}: {error}") from error

        return validate

    def returned(value: Any) -> Any:
        return value.model_dump(**dump_kwargs) if isinstance(value, BaseModel) else value

    convert: dict[str, Callable[[Any], Any]] = {}
    for name, hint in _hints(run).items():
        model = _optional(hint)
        if name != "return" and isinstance(model, type) and issubclass(model, BaseModel):
            convert[name] = validator(name, model)
    return _converting(run, convert, returned)


def _with_msgspec(task: Task[..., Any], run: Callable[..., Any]) -> Callable[..., Any]:
    """Every annotated argument becomes what its annotation says: numbers, moments, dataclasses, structs, containers of
    these. Raises TypeError naming the argument when it cannot."""
    import msgspec

    def converter(name: str, hint: Any) -> Callable[[Any], Any]:
        def convert(value: Any) -> Any:
            if type(value) is hint:
                return value
            try:
                return msgspec.convert(value, hint)
            except msgspec.ValidationError as error:
                raise TypeError(f"argument {name!r} of task {task.name}: {error}") from error

        return convert

    kinds = {parameter.name: parameter.kind for parameter in inspect.signature(run).parameters.values()}
    variable = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)
    hints = {name: hint for name, hint in _hints(run).items() if kinds.get(name) not in (None, *variable)}
    return _converting(run, {name: converter(name, hint) for name, hint in hints.items()}, lambda value: value)


def _optional(hint: Any) -> Any:
    """``X`` of ``X | None``."""
    if isinstance(hint, types.UnionType) or typing.get_origin(hint) is Union:
        members = [member for member in typing.get_args(hint) if member is not types.NoneType]
        return members[0] if len(members) == 1 else None
    return hint
