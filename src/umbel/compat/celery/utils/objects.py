"""``celery.utils.objects``: small kinds of objects."""

from __future__ import annotations

from collections.abc import Callable, Collection
from functools import reduce
from types import TracebackType
from typing import Any

__all__ = ["Bunch", "FallbackContext", "getitem_property", "mro_lookup"]


class Bunch:
    """An object with these attributes."""

    def __init__(self, **kwargs: Any) -> None:
        self.__dict__.update(kwargs)


def mro_lookup(
    cls: type, attr: str, stop: Collection[type] | None = None, monkey_patched: Collection[str] | None = None
) -> type | None:
    """The first class of ``cls`` and its bases that has ``attr`` itself.

    None when one of ``stop`` comes first, unless what it has is of a module in ``monkey_patched``.
    """
    stop, monkey_patched = stop or (), monkey_patched or ()
    for node in cls.mro():
        if node in stop:
            module = getattr(node.__dict__.get(attr), "__module__", None)
            return None if attr not in node.__dict__ or module not in monkey_patched else node
        if attr in node.__dict__:
            return node
    return None


class FallbackContext:
    """``provided`` if there is one, left alone; else what ``fallback(…)`` returns, closed at the end as its context."""

    def __init__(self, provided: Any, fallback: Callable[..., Any], *fb_args: Any, **fb_kwargs: Any) -> None:
        self.provided = provided
        self.fallback = fallback
        self.fb_args = fb_args
        self.fb_kwargs = fb_kwargs
        self._context: Any = None

    def __enter__(self) -> Any:
        if self.provided is not None:
            return self.provided
        context = self._context = self.fallback(*self.fb_args, **self.fb_kwargs)
        return context.__enter__()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> bool | None:
        return self._context.__exit__(kind, error, trace) if self._context is not None else None


class getitem_property:
    """An attribute that is kept in an item of the object, or of a mapping among its attributes.

    ``getitem_property("options.queue")`` is ``self["options"]["queue"]``.
    """

    def __init__(self, keypath: str, doc: str | None = None) -> None:
        path, _, self.key = keypath.rpartition(".")
        self.path = path.split(".") if path else []
        self.__doc__ = doc

    def _holder(self, obj: Any) -> Any:
        return reduce(lambda found, key: found[key], self.path, obj)

    def __get__(self, obj: Any, type: type | None = None) -> Any:
        return self._holder(obj).get(self.key) if obj is not None else type

    def __set__(self, obj: Any, value: Any) -> None:
        self._holder(obj)[self.key] = value
