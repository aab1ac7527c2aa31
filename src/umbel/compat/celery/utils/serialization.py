"""``celery.utils.serialization``: exceptions that can be pickled, and switches written as text."""

from __future__ import annotations

import inspect
import pickle
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from umbel.codecs.representation import safe_repr
from umbel.errors import UmbelError

__all__ = [
    "UnpickleableExceptionWrapper",
    "create_exception_cls",
    "find_pickleable_exception",
    "get_pickleable_etype",
    "get_pickleable_exception",
    "get_pickled_exception",
    "strtobool",
    "subclass_exception",
]

Loads = Callable[[bytes], Any]
Dumps = Callable[[Any], bytes]

_UNWANTED = (Exception, BaseException, object)
_SWITCHES = {"false": False, "no": False, "0": False, "off": False, "true": True, "yes": True, "1": True, "on": True}


class UnpickleableExceptionWrapper(UmbelError):
    """Stands for an exception that cannot be pickled; ``restore`` makes one of that name again."""

    wire_module = "celery.utils.serialization"

    def __init__(self, exc_module: str, exc_cls_name: str, exc_args: Any, text: str | None = None) -> None:
        self.exc_module = exc_module
        self.exc_cls_name = exc_cls_name
        self.exc_args = [arg if _is_pickleable(arg) else safe_repr(arg) for arg in exc_args]
        self.text = text
        super().__init__(exc_module, exc_cls_name, self.exc_args, text)

    def restore(self) -> BaseException:
        """An exception of the same class name and arguments."""
        return create_exception_cls(self.exc_cls_name, self.exc_module)(*self.exc_args)

    def __str__(self) -> str:
        return self.text or f"{self.exc_cls_name}{tuple(self.exc_args)}"

    @classmethod
    def from_exception(cls, exc: BaseException) -> UnpickleableExceptionWrapper:
        """The stand-in for ``exc``."""
        kind = type(exc)
        made = cls(kind.__module__, kind.__name__, getattr(exc, "args", ()), safe_repr(exc))
        return made.with_traceback(exc.__traceback__)


def subclass_exception(name: str, parent: type[BaseException], module: str) -> type[BaseException]:
    """A new exception class derived from ``parent``, in the module of that name."""
    return type(name, (parent,), {"__module__": module})


def create_exception_cls(name: str, module: str, parent: type[BaseException] | None = None) -> type[BaseException]:
    """A new exception class, by default derived from ``Exception``, in the module of that name."""
    return subclass_exception(str(name), parent or Exception, module)


def find_pickleable_exception(
    exc: BaseException, loads: Loads = pickle.loads, dumps: Dumps = pickle.dumps
) -> BaseException | None:
    """``exc`` as one of its base classes, the nearest that can be pickled; None where none before Exception can."""
    for kind in _bases(type(exc)):
        try:
            found = kind(*getattr(exc, "args", ()))
            loads(dumps(found))
        except Exception:
            continue
        return found
    return None


def get_pickleable_exception(exc: BaseException) -> BaseException:
    """``exc`` if it can be pickled, else one of its base classes that can, else a stand-in."""
    if _is_pickleable(exc):
        return exc
    return find_pickleable_exception(exc) or UnpickleableExceptionWrapper.from_exception(exc)


def get_pickleable_etype(
    cls: type[BaseException], loads: Loads = pickle.loads, dumps: Dumps = pickle.dumps
) -> type[BaseException]:
    """``cls``, or the nearest of its base classes, that can be pickled; Exception where none can."""
    for kind in _bases(cls):
        if _is_pickleable(kind, loads, dumps):
            return kind
    return Exception


def get_pickled_exception(exc: BaseException) -> BaseException:
    """What ``get_pickleable_exception`` was given, as far as it can be made again."""
    return exc.restore() if isinstance(exc, UnpickleableExceptionWrapper) else exc


def strtobool(term: Any, table: Mapping[str, bool] | None = None) -> Any:
    """What a text such as ``yes``, ``off`` or ``1`` means; what is no text as it is. Raises TypeError."""
    if not isinstance(term, str):
        return term
    try:
        return (table or _SWITCHES)[term.lower()]
    except KeyError:
        raise TypeError(f"{term!r} is neither true nor false") from None


def _is_pickleable(obj: Any, loads: Loads = pickle.loads, dumps: Dumps = pickle.dumps) -> bool:
    try:
        loads(dumps(obj))
    except Exception:
        return False
    return True


def _bases(cls: type[BaseException]) -> Iterator[type[BaseException]]:
    return (kind for kind in inspect.getmro(cls) if kind not in _UNWANTED and issubclass(kind, BaseException))
