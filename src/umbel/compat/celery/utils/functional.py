"""``celery.utils.functional``: small tools for functions and iterables."""

from __future__ import annotations

import functools
import inspect
import threading
from collections import OrderedDict, UserDict, UserList
from collections.abc import Callable, Iterable, Iterator, Mapping
from itertools import islice
from typing import Any, TypeVar, cast

T = TypeVar("T")

__all__ = [
    "LRUCache",
    "chunks",
    "dictfilter",
    "first",
    "firstmethod",
    "fun_accepts_kwargs",
    "head_from_fun",
    "is_list",
    "lazy",
    "mattrgetter",
    "maybe",
    "maybe_evaluate",
    "maybe_list",
    "memoize",
    "mlazy",
    "noop",
    "padlist",
    "regen",
    "uniq",
]

_SCALARS = (Mapping, str)
_ITERABLES = (Iterable,)


class LRUCache(UserDict[Any, Any]):
    """A dict of at most ``limit`` items (None: any number): what was not used for longest goes first."""

    def __init__(self, limit: int | None = None) -> None:
        self.limit = limit
        self.mutex = threading.RLock()
        super().__init__()
        self.data: OrderedDict[Any, Any] = OrderedDict()  # pyright: ignore[reportIncompatibleVariableOverride]

    def __getitem__(self, key: Any) -> Any:
        with self.mutex:
            self.data.move_to_end(key)
            return self.data[key]

    def __setitem__(self, key: Any, value: Any) -> None:
        with self.mutex:
            if self.limit and key not in self.data and len(self.data) >= self.limit:
                self.data.popitem(last=False)
            self.data[key] = value

    def update(self, *args: Any, **kwargs: Any) -> None:
        with self.mutex:
            self.data.update(*args, **kwargs)
            while self.limit and len(self.data) > self.limit:
                self.data.popitem(last=False)

    def popitem(self, last: bool = True) -> tuple[Any, Any]:
        with self.mutex:
            return self.data.popitem(last)

    def incr(self, key: Any, delta: int = 1) -> int:
        """Add to a number, which is kept as text as memcached does; returns it."""
        with self.mutex:
            number = int(self.data.pop(key)) + delta
            self[key] = str(number)
            return number

    def __iter__(self) -> Iterator[Any]:
        with self.mutex:
            return iter(list(self.data))

    def keys(self) -> Iterator[Any]:  # pyright: ignore[reportIncompatibleMethodOverride]
        return iter(self)

    def values(self) -> Iterator[Any]:  # pyright: ignore[reportIncompatibleMethodOverride]
        with self.mutex:
            return iter(list(self.data.values()))

    def items(self) -> Iterator[tuple[Any, Any]]:  # pyright: ignore[reportIncompatibleMethodOverride]
        with self.mutex:
            return iter(list(self.data.items()))

    iterkeys, itervalues, iteritems = keys, values, items

    def __getstate__(self) -> dict[str, Any]:
        return {name: value for name, value in vars(self).items() if name != "mutex"}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self.mutex = threading.RLock()


class lazy:
    """A call that is made when it is asked for, anew each time: ``lazy(fun, *args)()``."""

    def __init__(self, fun: Callable[..., Any], *args: Any, **kwargs: Any) -> None:
        self._fun = fun
        self._args = args
        self._kwargs = kwargs

    def __call__(self) -> Any:
        return self.evaluate()

    def evaluate(self) -> Any:
        return self._fun(*self._args, **self._kwargs)

    def __str__(self) -> str:
        return str(self())

    def __repr__(self) -> str:
        return repr(self())

    def __eq__(self, other: object) -> bool:
        return self() == other

    def __hash__(self) -> int:
        return hash(self())

    def __reduce__(self) -> tuple[Any, ...]:
        return _lazy_again, (type(self), self._fun, self._args, self._kwargs)


def _lazy_again(cls: type[lazy], fun: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> lazy:
    return cls(fun, *args, **kwargs)


class mlazy(lazy):
    """A ``lazy`` that is called once."""

    evaluated = False
    _value: Any = None

    def evaluate(self) -> Any:
        if not self.evaluated:
            self._value = super().evaluate()
            self.evaluated = True
        return self._value


def maybe_evaluate(value: Any) -> Any:
    """What a ``lazy`` gives; anything else as it is."""
    return value.evaluate() if isinstance(value, lazy) else value


def is_list(obj: Any, scalars: tuple[type, ...] = _SCALARS, iters: tuple[type, ...] = _ITERABLES) -> bool:
    """Whether ``obj`` has items and is none of ``scalars`` (texts and mappings)."""
    return isinstance(obj, iters) and not isinstance(obj, scalars or ())


def maybe_list(obj: Any, scalars: tuple[type, ...] = _SCALARS) -> Any:
    """``obj`` in a list, unless it has items itself or is None."""
    return obj if obj is None or is_list(obj, scalars) else [obj]


def memoize(
    maxsize: int | None = None, keyfun: Callable[..., Any] | None = None, Cache: Callable[..., Any] = LRUCache
) -> Callable[[Callable[..., T]], Callable[..., T]]:
    """Decorator that remembers what a function returned, for the ``maxsize`` arguments used last.

    ``keyfun(args, kwargs)`` tells calls apart. The function gets ``hits``, ``misses``, ``clear()`` and
    ``original_func``.
    """

    def decorate(fun: Callable[..., T]) -> Callable[..., T]:
        mutex = threading.Lock()
        cache = Cache(limit=maxsize)

        @functools.wraps(fun)
        def memoized(*args: Any, **kwargs: Any) -> T:
            key = keyfun(args, kwargs) if keyfun is not None else (*args, _BETWEEN, *sorted(kwargs.items()))
            try:
                with mutex:
                    value = cache[key]
            except KeyError:
                value = fun(*args, **kwargs)
                found.misses += 1
                with mutex:
                    cache[key] = value
            else:
                found.hits += 1
            return value

        def clear() -> None:
            cache.clear()
            found.hits = found.misses = 0

        found = cast("Any", memoized)
        found.hits = found.misses = 0
        found.clear = clear
        found.original_func = fun
        return memoized

    return decorate


_BETWEEN = object()


def noop(*args: Any, **kwargs: Any) -> None:
    """Do nothing, whatever the arguments."""


def first(predicate: Callable[[Any], Any], it: Iterable[T]) -> T | None:
    """The first item for which ``predicate`` is true, or None."""
    return next((item for item in it if predicate(item)), None)


def firstmethod(method: str, on_call: Callable[..., Any] | None = None) -> Callable[..., Any]:
    """A function that calls ``method`` of each object it is given until one answers something else than None.

    Objects without that method are passed over. ``on_call(method, *args)`` makes the calls.
    """

    def ask(it: Iterable[Any], *args: Any, **kwargs: Any) -> Any:
        for obj in it:
            bound = getattr(maybe_evaluate(obj), method, None)
            if bound is None:
                continue
            answer = on_call(bound, *args, **kwargs) if on_call else bound(*args, **kwargs)
            if answer is not None:
                return answer
        return None

    return ask


def chunks(it: Iterable[T], n: int) -> Iterator[list[T]]:
    """The items in lists of ``n``; the last may be shorter."""
    items = iter(it)
    while part := list(islice(items, n)):
        yield part


def padlist(container: Iterable[T], size: int, default: Any = None) -> list[Any]:
    """The first ``size`` items, and ``default`` for those that are missing."""
    found: list[Any] = list(container)[:size]
    return found + [default] * (size - len(found))


def mattrgetter(*attrs: str) -> Callable[[Any], dict[str, Any]]:
    """A function that gives these attributes of an object as a dict, None for those that it does not have."""
    return lambda obj: {attr: getattr(obj, attr, None) for attr in attrs}


def uniq(it: Iterable[T]) -> Iterator[T]:
    """The items in their order, each once."""
    seen: set[Any] = set()
    for item in it:
        if item not in seen:
            seen.add(item)
            yield item


def regen(it: Any) -> Any:
    """An iterable that can be gone through many times: lists and tuples as they are, of others what they gave."""
    return cast("list[Any]", it) if isinstance(it, (list, tuple)) else _Regen(it)


class _Regen(UserList[Any]):
    """The items of an iterator, taken from it as they are asked for, and kept."""

    def __init__(self, it: Iterable[Any]) -> None:
        self._it = iter(it)
        self._taken: list[Any] = []

    @property
    def data(self) -> list[Any]:  # pyright: ignore[reportIncompatibleVariableOverride]
        self._taken.extend(self._it)
        return self._taken

    def fully_consumed(self) -> bool:
        """Whether the iterator has nothing more."""
        for item in self._it:
            self._taken.append(item)
            return False
        return True

    def __iter__(self) -> Iterator[Any]:
        at = 0
        while at < len(self._taken) or not self.fully_consumed():
            yield self._taken[at]
            at += 1

    def __getitem__(self, i: Any) -> Any:
        if isinstance(i, int) and i >= 0:
            while len(self._taken) <= i and not self.fully_consumed():
                pass
            return self._taken[i]
        return self.data[i]

    def __bool__(self) -> bool:
        return bool(self._taken) or not self.fully_consumed()

    def __reduce__(self) -> tuple[Any, ...]:
        return list, (self.data,)

    def __repr__(self) -> str:
        shown = ", ".join(map(repr, self._taken))
        return f"<regen: [{shown}...]>"


def dictfilter(d: Mapping[Any, Any] | None = None, **kw: Any) -> dict[Any, Any]:
    """The items whose value is not None."""
    return {key: value for key, value in {**(d or {}), **kw}.items() if value is not None}


def head_from_fun(fun: Callable[..., Any], bound: bool = False) -> Callable[..., None]:
    """A function that takes the arguments of ``fun`` (without the first, if ``bound``) and does nothing.

    Calling it with others raises TypeError.
    """
    if not inspect.isroutine(fun) and not isinstance(fun, type):
        fun = fun.__call__
    signature = inspect.signature(fun)
    if bound:
        signature = signature.replace(parameters=list(signature.parameters.values())[1:])

    def head(*args: Any, **kwargs: Any) -> None:
        signature.bind(*args, **kwargs)

    return head


def maybe(typ: Callable[[Any], T], val: Any) -> T | None:
    """``typ(val)``, or None for None."""
    return typ(val) if val is not None else None


def fun_accepts_kwargs(fun: Callable[..., Any]) -> bool:
    """Whether ``fun`` has a ``**kwargs``."""
    return any(each.kind is each.VAR_KEYWORD for each in inspect.signature(fun).parameters.values())
