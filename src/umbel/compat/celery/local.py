"""``celery.local``: objects that stand for others, which are found when they are used."""

from __future__ import annotations

import importlib
import operator
from collections.abc import Callable, Iterator
from typing import Any, cast

__all__ = ["PromiseProxy", "Proxy", "maybe_evaluate", "try_import"]


def try_import(module: str, default: Any = None) -> Any:
    """The module of that name, or ``default`` where it cannot be imported."""
    try:
        return importlib.import_module(module)
    except ImportError:
        return default


class Proxy:
    """Stands for what ``local(*args, **kwargs)`` returns at each use, or for the attribute ``name`` of ``local``."""

    __slots__ = ("__args", "__attribute", "__kwargs", "__local", "__weakref__")

    def __init__(
        self,
        local: Any,
        args: Any = None,
        kwargs: Any = None,
        name: str | None = None,
        __doc__: str | None = None,
    ) -> None:
        object.__setattr__(self, "_Proxy__local", local)
        object.__setattr__(self, "_Proxy__args", args or ())
        object.__setattr__(self, "_Proxy__kwargs", kwargs or {})
        object.__setattr__(self, "_Proxy__attribute", name)

    def _get_current_object(self) -> Any:
        """What the proxy stands for now."""
        local: Any = object.__getattribute__(self, "_Proxy__local")
        name: str | None = object.__getattribute__(self, "_Proxy__attribute")
        if name is not None:
            try:
                return getattr(local, name)
            except AttributeError:
                raise RuntimeError(f"no object bound to {name}") from None
        args, kwargs = object.__getattribute__(self, "_Proxy__args"), object.__getattribute__(self, "_Proxy__kwargs")
        return local(*args, **kwargs) if callable(local) else local

    @property
    def __class__(self) -> type[Any]:  # pyright: ignore[reportIncompatibleMethodOverride]
        return cast("type[Any]", type(self._get_current_object()))

    @property
    def __dict__(self) -> dict[str, Any]:  # pyright: ignore[reportIncompatibleVariableOverride]
        return self._get_current_object().__dict__

    def __getattr__(self, name: str) -> Any:
        return getattr(self._get_current_object(), name)

    def __setattr__(self, name: str, value: Any) -> None:
        setattr(self._get_current_object(), name, value)

    def __delattr__(self, name: str) -> None:
        delattr(self._get_current_object(), name)

    def __dir__(self) -> list[str]:
        return dir(self._get_current_object())

    def __repr__(self) -> str:
        try:
            current = self._get_current_object()
        except RuntimeError:
            return "<Proxy unbound>"
        return repr(current)

    def __bool__(self) -> bool:
        try:
            return bool(self._get_current_object())
        except RuntimeError:
            return False

    __nonzero__ = __bool__

    def __call__(self, *a: Any, **kw: Any) -> Any:
        return self._get_current_object()(*a, **kw)

    def __enter__(self) -> Any:
        return self._get_current_object().__enter__()

    def __exit__(self, *error: Any) -> Any:
        return self._get_current_object().__exit__(*error)

    def __iter__(self) -> Iterator[Any]:
        return iter(self._get_current_object())

    def __reduce__(self) -> Any:
        return self._get_current_object().__reduce__()

    def __reduce_ex__(self, protocol: Any) -> Any:
        return self._get_current_object().__reduce_ex__(protocol)


def _forwarded(operation: Callable[..., Any]) -> Callable[..., Any]:
    def forward(self: Any, *others: Any) -> Any:
        return operation(self._get_current_object(), *others)

    return forward


def _reflected(operation: Callable[..., Any]) -> Callable[..., Any]:
    def forward(self: Any, other: Any) -> Any:
        return operation(other, self._get_current_object())

    return forward


_ARITHMETIC = ("add", "sub", "mul", "truediv", "floordiv", "mod", "pow", "lshift", "rshift", "and", "xor", "or")
_OTHERS: dict[str, Any] = {
    "str": str, "hash": hash, "len": len, "int": int, "float": float, "complex": complex, "index": operator.index,
    "getitem": operator.getitem, "setitem": operator.setitem, "delitem": operator.delitem,
    "contains": operator.contains, "eq": operator.eq, "ne": operator.ne, "lt": operator.lt, "le": operator.le,
    "gt": operator.gt, "ge": operator.ge, "neg": operator.neg, "pos": operator.pos, "abs": operator.abs,
    "invert": operator.invert, "divmod": divmod, "reversed": reversed,
}  # fmt: skip

for _name, _operation in _OTHERS.items():
    setattr(Proxy, f"__{_name}__", _forwarded(_operation))
for _name in _ARITHMETIC:
    _operation = getattr(operator, f"__{_name}__")
    setattr(Proxy, f"__{_name}__", _forwarded(_operation))
    setattr(Proxy, f"__r{_name}__", _reflected(_operation))


class PromiseProxy(Proxy):
    """A proxy that finds its object once, when it is first used, and keeps it."""

    __slots__ = ("__pending__", "__thing")

    def _get_current_object(self) -> Any:
        try:
            return object.__getattribute__(self, "_PromiseProxy__thing")
        except AttributeError:
            return self.__evaluate__()

    def __then__(self, fun: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        """Call ``fun`` when the object has been found; now, if it has."""
        if self.__evaluated__():
            return fun(*args, **kwargs)
        try:
            pending = object.__getattribute__(self, "__pending__")
        except AttributeError:
            pending = list[Any]()
            object.__setattr__(self, "__pending__", pending)
        pending.append((fun, args, kwargs))
        return None

    def __evaluated__(self) -> bool:
        """Whether the object has been found."""
        try:
            object.__getattribute__(self, "_PromiseProxy__thing")
        except AttributeError:
            return False
        return True

    def __maybe_evaluate__(self) -> Any:
        return self._get_current_object()

    def __evaluate__(self) -> Any:
        """Find the object, and call what waits for it."""
        thing = Proxy._get_current_object(self)
        object.__setattr__(self, "_PromiseProxy__thing", thing)
        try:
            pending = object.__getattribute__(self, "__pending__")
        except AttributeError:
            return thing
        object.__delattr__(self, "__pending__")
        for fun, args, kwargs in pending:
            fun(*args, **kwargs)
        return thing


def maybe_evaluate(obj: Any) -> Any:
    """What a PromiseProxy stands for; anything else as it is."""
    try:
        return obj.__maybe_evaluate__()
    except AttributeError:
        return obj
