"""Keys from arguments: what makes a limit one of many, as one for each tenant.

A key is given as a format string over the names of the task's parameters, ``"{tenant}"`` or ``"{order[shop]}"``, or as
a function that is called with the task's arguments. It is computed in the supervisor, from the body of the message.
"""

from __future__ import annotations

import hashlib
import inspect
import string
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from umbel.codecs import loads
from umbel.errors import ConfigurationError, LimitKeyError, UmbelError
from umbel.message import Message
from umbel.reading import body_parts
from umbel.request import read_request

if TYPE_CHECKING:
    from umbel.app import Umbel
    from umbel.task import Task

Key = Callable[[Message], str | None]
"""The key of one message; None when its arguments cannot be read or do not fit the task, which its run will tell.

Raises LimitKeyError when the key itself fails.
"""

Compute = Callable[[inspect.BoundArguments], Any]

LONGEST = 120
"""Characters of a key that is kept as it is; a longer one is kept as its beginning and a hash."""


def compile_key(task: Task[..., Any], option: str) -> Key | None:
    """How the key in ``option`` of a task is computed; None where it has none.

    Raises ConfigurationError for one that names no parameter of the task, or is neither text nor function.
    """
    key: Any = getattr(task, option, None)
    if key is None:
        return None
    try:
        signature = inspect.signature(task.run)
    except (TypeError, ValueError) as error:
        raise ConfigurationError(f"{option} of task {task.name}: its parameters cannot be known: {error}") from error
    if isinstance(key, str):
        compute = _formatting(task, option, key, signature)
    elif callable(key):
        compute = _calling(key)
    else:
        kind = type(key).__name__
        raise ConfigurationError(f"{option} of task {task.name} must be text or a function, not {kind}")

    def key_of(message: Message) -> str | None:
        bound = _bind(task.app, signature, message)
        if bound is None:
            return None
        try:
            return shortened(str(compute(bound)))
        except Exception as error:
            raise LimitKeyError(
                f"{option} of task {task.name} cannot be computed: {type(error).__name__}: {error}"
            ) from error

    return key_of


def shortened(key: str) -> str:
    """``key``, in at most ``LONGEST`` characters, different for different keys."""
    if len(key) <= LONGEST:
        return key
    return f"{key[: LONGEST - 33]}~{hashlib.sha256(key.encode()).hexdigest()[:32]}"


def _calling(function: Callable[..., Any]) -> Compute:
    return lambda bound: function(*bound.args, **bound.kwargs)


def _formatting(task: Task[..., Any], option: str, template: str, signature: inspect.Signature) -> Compute:
    where = f"{option} {template!r} of task {task.name}"
    try:
        fields = [field for _, field, _, _ in string.Formatter().parse(template) if field is not None]
    except ValueError as error:
        raise ConfigurationError(f"{where} is no format string: {error}") from error
    kinds = [parameter.kind for parameter in signature.parameters.values()]
    for field in fields:
        name = field.partition(".")[0].partition("[")[0]
        if name not in signature.parameters and inspect.Parameter.VAR_KEYWORD not in kinds:
            known = ", ".join(signature.parameters) or "none"
            raise ConfigurationError(f"{where} names no parameter of the task: {name!r}; it has {known}")
    if not fields:
        raise ConfigurationError(f"{where} names no parameter of the task, so that it is the same for all calls")
    return lambda bound: template.format(**_by_name(bound))


def _bind(app: Umbel, signature: inspect.Signature, message: Message) -> inspect.BoundArguments | None:
    try:
        compression = read_request(message).compression
        body = loads(message.body, message.content_type, message.content_encoding, app.accept(), compression)
        args, kwargs, _ = body_parts(body)
        bound = signature.bind(*args, **kwargs)
    except (UmbelError, TypeError):
        return None
    bound.apply_defaults()
    return bound


def _by_name(bound: inspect.BoundArguments) -> dict[str, Any]:
    named = dict(bound.arguments)
    for name, parameter in bound.signature.parameters.items():
        if parameter.kind is inspect.Parameter.VAR_KEYWORD:
            named |= named.pop(name)
    return named
