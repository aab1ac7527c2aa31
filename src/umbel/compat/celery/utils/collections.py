"""``celery.utils.collections``: layered dicts, sets that forget, and bounded buffers."""

from __future__ import annotations

import time
from collections import OrderedDict as _OrderedDict
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, MutableMapping
from heapq import heapify, heappop, heappush
from queue import Empty
from typing import Any, ClassVar, cast

from umbel.compat.celery.utils.functional import maybe_evaluate

__all__ = [
    "AttributeDict",
    "AttributeDictMixin",
    "BufferMap",
    "ChainMap",
    "ConfigurationView",
    "DictAttribute",
    "Evictable",
    "LimitedSet",
    "Messagebuffer",
    "OrderedDict",
    "force_mapping",
    "lpmerge",
]


def force_mapping(m: Any) -> Any:
    """A mapping as it is; of another object its attributes as one."""
    found: Any = maybe_evaluate(m)
    return cast("Mapping[Any, Any]", found) if isinstance(found, Mapping) else DictAttribute(found)


def lpmerge(L: dict[Any, Any], R: Mapping[Any, Any]) -> dict[Any, Any]:
    """``L``, with those items of ``R`` that are not None."""
    L.update({key: value for key, value in R.items() if value is not None})
    return L


class OrderedDict(_OrderedDict[Any, Any]):
    """A dict that knows its least recently used key by ``_LRUkey`` after ``move_to_end``."""

    def _LRUkey(self) -> Any:
        return next(iter(self.keys()))


class AttributeDictMixin:
    """Items of a mapping as attributes."""

    def __getattr__(self, k: str) -> Any:
        try:
            return self[k]  # pyright: ignore[reportUnknownVariableType, reportIndexIssue]
        except KeyError:
            raise AttributeError(f"{type(self).__name__!r} object has no attribute {k!r}") from None

    def __setattr__(self, key: str, value: Any) -> None:
        self[key] = value  # pyright: ignore[reportIndexIssue]


class AttributeDict(dict[Any, Any], AttributeDictMixin):
    """A dict whose items are attributes too."""


class DictAttribute:
    """The attributes of an object as a mapping."""

    obj: Any = None

    def __init__(self, obj: Any) -> None:
        object.__setattr__(self, "obj", obj)

    def __getattr__(self, key: str) -> Any:
        return getattr(self.obj, key)

    def __setattr__(self, key: str, value: Any) -> None:
        setattr(self.obj, key, value)

    def get(self, key: str, default: Any = None) -> Any:
        try:
            return self[key]
        except KeyError:
            return default

    def setdefault(self, key: str, default: Any = None) -> Any:
        if key not in self:
            self[key] = default
        return self[key]

    def __getitem__(self, key: str) -> Any:
        try:
            return getattr(self.obj, key)
        except AttributeError:
            raise KeyError(key) from None

    def __setitem__(self, key: str, value: Any) -> None:
        setattr(self.obj, key, value)

    def __contains__(self, key: object) -> bool:
        return isinstance(key, str) and hasattr(self.obj, key)

    def __iter__(self) -> Iterator[str]:
        return iter(dir(self.obj))

    def keys(self) -> Iterator[str]:
        return iter(self)

    def values(self) -> Iterator[Any]:
        return (getattr(self.obj, key) for key in self)

    def items(self) -> Iterator[tuple[str, Any]]:
        return ((key, getattr(self.obj, key)) for key in self)

    iterkeys, itervalues, iteritems = keys, values, items


cast("Any", MutableMapping).register(DictAttribute)


class ChainMap(MutableMapping[Any, Any]):
    """Mappings one over the other: the first that has a key answers, and changes are made in the first.

    ``key_t`` is applied to each key. Functions bound with ``bind_to`` are called with what is updated.
    """

    key_t: Callable[[Any], Any] | None = None
    changes: Any = None
    defaults: Any = None
    maps: Any = None

    def __init__(self, *maps: Any, **kwargs: Any) -> None:
        found = list(maps or [{}])
        vars(self).update(
            key_t=kwargs.get("key_t"), maps=found, changes=found[0], defaults=found[1:], _observers=list[Any]()
        )

    def add_defaults(self, d: Any) -> None:
        """Put a mapping, or an object with attributes, before all other defaults."""
        d = force_mapping(d)
        self.defaults.insert(0, d)
        self.maps.insert(1, d)

    def bind_to(self, callback: Callable[..., Any]) -> None:
        """Call ``callback`` with the arguments of each ``update``."""
        vars(self)["_observers"].append(callback)

    def _key(self, key: Any) -> Any:
        return self.key_t(key) if self.key_t is not None else key

    def _names(self, key: Any) -> tuple[Any, ...]:
        return (self._key(key),)

    def __missing__(self, key: Any) -> Any:
        raise KeyError(key)

    def __getitem__(self, key: Any) -> Any:
        names = self._names(key)
        for mapping in self.maps:
            for name in names:
                try:
                    return mapping[name]
                except KeyError:
                    continue
        return self.__missing__(names[0])

    def __setitem__(self, key: Any, value: Any) -> None:
        self.changes[self._key(key)] = value

    def __delitem__(self, key: Any) -> None:
        try:
            del self.changes[self._key(key)]
        except KeyError:
            raise KeyError(f"{key!r} is not in the first mapping") from None

    def get(self, key: Any, default: Any = None) -> Any:
        try:
            return self[key]
        except KeyError:
            return default

    def pop(self, key: Any, *default: Any) -> Any:
        return self.changes.pop(self._key(key), *default)

    def setdefault(self, key: Any, default: Any = None) -> Any:
        if key not in self:
            self[key] = default
        return self[key]

    def update(self, *args: Any, **kwargs: Any) -> None:
        changed = self.changes.update(*args, **kwargs)
        for callback in vars(self)["_observers"]:
            callback(*args, **kwargs)
        return changed

    def clear(self) -> None:
        """Forget what was changed; the defaults stay."""
        self.changes.clear()

    def copy(self) -> Any:
        return type(self)(self.maps[0].copy(), *self.maps[1:])

    __copy__ = copy

    @classmethod
    def fromkeys(cls, iterable: Iterable[Any], *args: Any) -> ChainMap:
        return cls(dict.fromkeys(iterable, *args))

    def _merged(self) -> dict[Any, Any]:
        merged: dict[Any, Any] = {}
        for mapping in reversed(self.maps):
            merged.update((key, mapping[key]) for key in mapping)
        return merged

    def __contains__(self, key: object) -> bool:
        return any(name in mapping for mapping in self.maps for name in self._names(key))

    def __iter__(self) -> Iterator[Any]:
        return iter(self._merged())

    def __len__(self) -> int:
        return len(self._merged())

    def __bool__(self) -> bool:
        return any(self.maps)

    def keys(self) -> Any:
        return iter(self._merged())

    def values(self) -> Any:
        return iter(self._merged().values())

    def items(self) -> Any:
        return iter(self._merged().items())

    iterkeys, itervalues, iteritems = keys, values, items

    def __repr__(self) -> str:
        return f"{type(self).__name__}({', '.join(map(repr, self.maps))})"


class ConfigurationView(ChainMap, AttributeDictMixin):
    """Changes over defaults, as attributes too. ``keys``: functions that give other names of a key; ``prefix`` too."""

    def __init__(
        self, changes: Any, defaults: Any = None, keys: Iterable[Callable[[Any], Any]] | None = None,
        prefix: str | None = None,
    ) -> None:  # fmt: skip
        super().__init__(changes, *(defaults or []))
        vars(self).update(prefix=prefix.rstrip("_") + "_" if prefix else prefix, _keys=tuple(keys or ()))

    def _names(self, key: Any) -> tuple[Any, ...]:
        prefix = vars(self)["prefix"]
        names = ([prefix + key] if prefix and not key.startswith(prefix) else []) + [key]
        names += [other(key) for other in vars(self)["_keys"]]
        return tuple(dict.fromkeys(self._key(name) for name in names))

    def first(self, *keys: Any) -> Any:
        """The first value of these keys that is not None."""
        return next((value for value in map(self.get, keys) if value is not None), None)

    def get(self, key: Any, default: Any = None) -> Any:
        return super().get(key, default)

    def clear(self) -> None:
        """Forget changes and defaults."""
        self.changes.clear()
        self.maps[:] = [self.changes]
        self.defaults[:] = []

    def copy(self) -> dict[Any, Any]:
        return self._merged()

    def swap_with(self, other: ConfigurationView) -> None:
        """Be what ``other`` is."""
        mine, theirs = vars(self), vars(other)
        mine.update({name: theirs[name] for name in ("changes", "defaults", "key_t", "prefix", "maps", "_keys")})


class LimitedSet:
    """A set whose items are forgotten: after ``expires`` seconds, and the oldest when there are more than ``maxlen``.

    ``minlen`` items stay although they have expired. 0 is no limit. ``data``: items, or times by item, to begin with.
    Raises ValueError for limits that contradict each other.
    """

    max_heap_percent_overload = 15

    def __init__(self, maxlen: int = 0, expires: float = 0, data: Any = None, minlen: int = 0) -> None:
        self.maxlen = maxlen or 0
        self.minlen = minlen or 0
        self.expires = expires or 0
        self._data: dict[Any, float] = {}
        self._heap: list[tuple[float, Any]] = []
        if not 0 <= self.minlen <= self.maxlen and (self.maxlen or self.minlen < 0):
            raise ValueError("minlen is from 0 to maxlen")
        if self.maxlen < 0 or self.expires < 0:
            raise ValueError("maxlen and expires are 0 or more")
        if data:
            self.update(data)

    def add(self, item: Any, now: float | None = None) -> None:
        """Add an item, or make it as young as ``now`` (Unix time)."""
        at = now or time.time()
        self._data[item] = at
        heappush(self._heap, (at, _Unordered(item)))
        if len(self._heap) > max(self.maxlen, len(self._data)) * (100 + self.max_heap_percent_overload) / 100 + 1:
            self._rebuild()
        if self.maxlen and len(self._data) > self.maxlen:
            self.purge(now)

    def _rebuild(self) -> None:
        self._heap[:] = [(at, _Unordered(item)) for item, at in self._data.items()]
        heapify(self._heap)

    def update(self, other: Any) -> None:
        """Add items, or those of a dict or another set with their times. Raises ValueError for times that are none."""
        if not other:
            return
        if isinstance(other, LimitedSet):
            other = other.as_dict()
        if isinstance(other, Mapping):
            for item, at in cast("Mapping[Any, Any]", other).items():
                moment: Any = cast("Mapping[str, Any]", at).get("inserted") if isinstance(at, Mapping) else at
                if not isinstance(moment, float):
                    raise ValueError(f"the time of {item!r} is a Unix time as a float, not {moment!r}")
                self.add(item, moment)
        else:
            for item in other:
                self.add(item)

    def clear(self) -> None:
        self._data.clear()
        self._heap.clear()

    def discard(self, item: Any) -> None:
        """Remove an item if it is there."""
        self._data.pop(item, None)

    pop_value = discard

    def purge(self, now: float | None = None) -> None:
        """Forget what is to be forgotten by ``now``."""
        moment = now or time.time()
        while self.maxlen and len(self._data) > self.maxlen:
            self.pop()
        while self.expires and len(self._data) > self.minlen:
            oldest = self._oldest()
            if oldest is None or oldest[0] + self.expires > moment:
                break
            self.pop()

    def _oldest(self) -> tuple[float, Any] | None:
        while self._heap:
            at, item = self._heap[0]
            if self._data.get(item.value) == at:
                return at, item.value
            heappop(self._heap)
        return None

    def pop(self, default: Any = None) -> Any:
        """Remove the oldest item; ``default`` when there is none."""
        oldest = self._oldest()
        if oldest is None:
            return default
        heappop(self._heap)
        del self._data[oldest[1]]
        return oldest[1]

    def as_dict(self) -> dict[Any, float]:
        """The times by item."""
        return dict(self._data)

    def __contains__(self, item: object) -> bool:
        return item in self._data

    def __iter__(self) -> Iterator[Any]:
        return iter(sorted(self._data, key=self._data.__getitem__))

    def __len__(self) -> int:
        return len(self._data)

    def __bool__(self) -> bool:
        return bool(self._data)

    __nonzero__ = __bool__

    def __eq__(self, other: object) -> bool:
        return isinstance(other, LimitedSet) and self._data == other._data

    __hash__ = None  # pyright: ignore[reportAssignmentType]

    def __repr__(self) -> str:
        limits = f"maxlen={self.maxlen}, expires={self.expires}, minlen={self.minlen}"
        return f"<{type(self).__name__}({len(self)}): {limits}>"


class _Unordered:
    """An item in a heap beside others of the same time, whatever it is."""

    __slots__ = ("value",)

    def __init__(self, value: Any) -> None:
        self.value = value

    def __lt__(self, other: _Unordered) -> bool:
        return False


class Evictable:
    """A buffer that gives up what is too much."""

    Empty: ClassVar[type[Exception]] = Empty

    maxsize: int | None

    def __len__(self) -> int:
        raise NotImplementedError

    def evict(self) -> None:
        """Forget items until there are no more than ``maxsize``."""
        while self.maxsize and len(self) > self.maxsize:
            try:
                self._evict()
            except IndexError:
                return

    def _evict(self) -> None:
        raise NotImplementedError


class Messagebuffer(Evictable):
    """A queue that keeps the last ``maxsize`` items."""

    def __init__(self, maxsize: int | None, iterable: Iterable[Any] | None = None, deque: Any = deque) -> None:
        self.maxsize = maxsize
        self.data = deque(iterable or [])

    def put(self, item: Any) -> None:
        self.data.append(item)
        self.evict()

    def extend(self, it: Iterable[Any]) -> None:
        self.data.extend(it)
        self.evict()

    def take(self, *default: Any) -> Any:
        """Remove the oldest item; without one ``default``, or Empty is raised."""
        try:
            return self.data.popleft()
        except IndexError:
            if default:
                return default[0]
            raise self.Empty from None

    def _evict(self) -> None:
        self.take()

    def __len__(self) -> int:
        return len(self.data)

    def __contains__(self, item: object) -> bool:
        return item in self.data

    def __reversed__(self) -> Iterator[Any]:
        return reversed(self.data)

    def __getitem__(self, index: int) -> Any:
        return self.data[index]

    def __iter__(self) -> Iterator[Any]:
        """Take all items."""
        while self.data:
            yield self.take()

    def __repr__(self) -> str:
        return f"<{type(self).__name__}: {len(self)}/{self.maxsize}>"


class BufferMap(OrderedDict, Evictable):
    """Buffers by key, of ``bufmaxsize`` items each and ``maxsize`` together; the key put to longest ago gives first."""

    Buffer = Messagebuffer
    total = 0

    def __init__(self, maxsize: int | None, iterable: Any = None, bufmaxsize: int | None = 1000) -> None:
        super().__init__()
        self.maxsize = maxsize
        self.bufmaxsize = bufmaxsize
        if iterable:
            self.update(iterable)
        self.total = sum(len(buffer) for buffer in self.values())

    def put(self, key: Any, item: Any) -> None:
        self._buffer(key).put(item)
        self._counted(key)

    def extend(self, key: Any, it: Iterable[Any]) -> None:
        self._buffer(key).extend(it)
        self._counted(key)

    def take(self, key: Any, *default: Any) -> Any:
        """Remove the oldest item of ``key``; without one ``default``, or Empty is raised."""
        buffer = self.get(key)
        if buffer:
            item = buffer.take()
            self.total -= 1
            if not buffer:
                del self[key]
            return item
        if default:
            return default[0]
        raise self.Empty

    def _buffer(self, key: Any) -> Messagebuffer:
        buffer = self.get(key)
        if buffer is None:
            buffer = self[key] = self.Buffer(self.bufmaxsize)
        return buffer

    def _counted(self, key: Any) -> None:
        self.move_to_end(key)
        self.total = sum(len(buffer) for buffer in self.values())
        while self.maxsize and self.total > self.maxsize:
            self.take(self._LRUkey())

    def __repr__(self) -> str:
        return f"<{type(self).__name__}: {self.total}/{self.maxsize}>"
