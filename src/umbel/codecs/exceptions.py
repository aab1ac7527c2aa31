"""Exceptions as data: how a failed task's error reaches whoever asks for its result.

With pickle the exception itself travels where it can be pickled. Everywhere else, and for Umbel's own errors,
it is ``{"exc_type", "exc_message", "exc_module"}``: qualified class name, list of arguments, module. Umbel's
errors bear the names under which Celery's clients know theirs, and Celery's names are read as Umbel's errors.

Rebuilding never imports anything, runs no module-level hook, and calls nothing but exception classes found in
modules that are imported already. For all else there is :class:`RemoteException`.
"""

from __future__ import annotations

import functools
import sys
from collections.abc import Callable
from types import ModuleType
from typing import Any, cast

from umbel import errors
from umbel.errors import TaskError, UmbelError

_WIRE_MODULES = frozenset({errors.CELERY, errors.BILLIARD, errors.KOMBU})
_ALWAYS_PLAIN = frozenset({str, int, float, bool, type(None)})


class RemoteException(TaskError):
    """An exception whose class cannot be had in this process.

    What is raised is a subclass with the name and module of the remote class, and the remote ``args``; so
    ``except TaskError`` catches it, and tracebacks read as they did on the worker.
    """

    exc_type: str = "RemoteException"
    exc_module: str = __name__

    def __reduce__(self) -> tuple[Any, ...]:
        return _rebuild_remote, (self.exc_module, self.exc_type, *self.args)


@functools.lru_cache(maxsize=512)
def _remote_class(module: str, qualname: str) -> type[RemoteException]:
    name = qualname.rpartition(".")[2]
    if not name.isidentifier():
        name = "RemoteException"
    namespace = {
        "__module__": module,
        "__qualname__": qualname,
        "exc_type": qualname,
        "exc_module": module,
        "__doc__": None,
    }
    return type(name, (RemoteException,), namespace)


def _rebuild_remote(module: str, qualname: str, *args: Any) -> RemoteException:
    return _remote_class(module, qualname)(*args)


def _rebuild_wrapped(module: str, qualname: str, args: Any = (), text: str | None = None) -> BaseException:
    """Stands for the wrapper in which Celery stores exceptions that cannot be pickled."""
    return decode_exception({"exc_module": module, "exc_type": qualname, "exc_message": args or [text]})


@functools.cache
def _classes_by_wire_name() -> dict[str, type[BaseException]]:
    found: dict[str, type[BaseException]] = {}
    own = [value for value in vars(errors).values() if isinstance(value, type) and issubclass(value, UmbelError)]
    for cls in own:
        found[cls.__name__] = cls
    for cls in own:
        wire_name = vars(cls).get("wire_name")
        if wire_name is not None:
            found[wire_name] = cls
    return found


def wire_class(module: str, name: str) -> Any:
    """What stands in Umbel for a class of Celery, billiard or kombu; None if nothing does."""
    if module in _WIRE_MODULES:
        return _classes_by_wire_name().get(name)
    if module == "celery.utils.serialization" and name == "UnpickleableExceptionWrapper":
        return _rebuild_wrapped
    return None


# -- writing ---------------------------------------------------------------------------------------


def encode_exception(exc: BaseException, serializer_name: str) -> Any:
    """``exc`` in a form that the serializer called ``serializer_name`` can write.

    Arguments that it cannot write are replaced by their ``repr``.
    """
    from umbel.codecs.registry import serializer

    found = serializer(serializer_name)
    encode = found.encode
    cls = type(exc)
    module, name = cls.__module__, cls.__qualname__
    if isinstance(exc, UmbelError) and module.partition(".")[0] == "umbel":
        module, name = exc.wire_module, getattr(exc, "wire_name", cls.__name__)
    elif found.name == "pickle" and not isinstance(exc, RemoteException) and _survives_pickle(exc):
        return exc
    args = [value if type(value) in _ALWAYS_PLAIN else _serializable(value, encode) for value in _args(exc)]
    return {"exc_type": name, "exc_message": args, "exc_module": module}


def _args(exc: BaseException) -> tuple[Any, ...]:
    """The arguments of an exception, or, where its class fails to tell them, a note of that."""
    try:
        return tuple(exc.args)
    except Exception as failure:
        return (f"(its arguments cannot be shown: {type(failure).__qualname__})",)


def _survives_pickle(exc: BaseException) -> bool:
    import pickle

    try:
        return type(pickle.loads(pickle.dumps(exc))) is type(exc)
    except Exception:
        return False


def _serializable(value: Any, encode: Callable[[Any], Any]) -> Any:
    try:
        encode(value)
    except Exception:
        from umbel.codecs.representation import safe_repr

        return safe_repr(value)
    return value


# -- reading ---------------------------------------------------------------------------------------


def decode_exception(payload: Any) -> BaseException:
    """The exception that ``payload`` (from :func:`encode_exception` or Celery) stands for.

    An exception of its own class where that is known here and can be made from its arguments; otherwise a
    :class:`RemoteException` that has its name. Never raises, never imports.
    """
    if isinstance(payload, BaseException):
        return payload
    fields = cast("dict[str, Any]", payload) if isinstance(payload, dict) else {}
    if "exc_type" not in fields:
        return TaskError(cast("Any", payload))
    name = str(fields["exc_type"])
    module = str(fields.get("exc_module") or "builtins")
    message = fields.get("exc_message")
    if message is None:
        args: tuple[Any, ...] = ()
    else:
        args = tuple(cast("list[Any]", message)) if isinstance(message, (list, tuple)) else (message,)
    if wire_class(module, name) is _rebuild_wrapped and 3 <= len(args) <= 4:
        return _rebuild_wrapped(*args)
    cls = _find_class(module, name)
    if cls is not None:
        try:
            made: Any = cls(*args)
        except Exception:
            return _remote_class(module, name)(*args)
        if isinstance(made, BaseException):
            return made
    return _remote_class(module, name)(*args)


def _find_class(module_name: str, qualname: str) -> type[BaseException] | None:
    known = _classes_by_wire_name().get(qualname) if module_name in _WIRE_MODULES else None
    if known is not None:
        return known
    module = sys.modules.get(module_name)
    if not isinstance(module, ModuleType):
        return None
    # Past __getattr__ and __getattribute__ of lazy modules, which would import.
    found: Any = object.__getattribute__(module, "__dict__")
    for part in qualname.split("."):
        namespace = cast("Any", found if isinstance(found, dict) else type.__getattribute__(found, "__dict__"))
        found = namespace.get(part)
        if not isinstance(found, type):
            return None
    return found if issubclass(found, BaseException) else None
