"""Display strings of arguments and results, for message headers, logs and events.

Runs for every task that is sent, so flat arguments take a short way. Whatever the value does, the answer is
a string of bounded length, made without walking through more of the value than is shown.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any, cast

_NUMBERS = frozenset({int, float, bool, type(None)})
_type_of: Callable[[Any], Any] = type
_SHORT_TEXT = 200
_SHORT_LENGTH = 32
_REPRS: dict[str, Any] = {
    cls.__name__: cls.__repr__ for cls in cast("list[Any]", [str, bytes, bytearray, dict, list, tuple, set, frozenset])
}


def safe_repr(obj: Any, max_length: int = 1024, max_levels: int = 3) -> str:
    """``repr(obj)``, at most ``max_length`` characters, cut with ``...``.

    Containers nested deeper than ``max_levels`` are shown as ``[...]``, containers inside themselves too.
    Bytes that are not UTF-8 are shown in hex. Never raises: an object whose ``__repr__`` fails is shown as
    ``<unrepresentable ...>``.
    """
    try:
        if _is_flat(obj):
            try:
                text = repr(obj)
            except ValueError:  # an integer of more digits than Python shows: the writer names it
                text = None
            if text is not None and len(text) <= max_length:
                return text
        return _Writer(max_length, max_levels).text(obj)
    except Exception as error:
        return _cut(_unrepresentable(obj, error), max_length)


def _is_flat(obj: Any) -> bool:
    kind = _type_of(obj)
    if kind is dict:
        if len(obj) > _SHORT_LENGTH:
            return False
        for key, value in obj.items():
            if type(key) is not str or len(key) > _SHORT_TEXT:
                return False
            value_kind = _type_of(value)
            if value_kind not in _NUMBERS and (value_kind is not str or len(value) > _SHORT_TEXT):
                return False
        return True
    if kind is tuple or kind is list:
        if len(obj) > _SHORT_LENGTH:
            return False
        for value in obj:
            value_kind = _type_of(value)
            if value_kind not in _NUMBERS and (value_kind is not str or len(value) > _SHORT_TEXT):
                return False
        return True
    return kind in _NUMBERS


def _cut(text: str, max_length: int) -> str:
    return text if len(text) <= max_length else text[: max(max_length - 3, 0)] + "..."


def _unrepresentable(obj: Any, error: Exception) -> str:
    return f"<unrepresentable {type(obj).__name__}: {type(error).__name__}>"


class _Full(Exception):
    """The text is as long as it may be."""


class _Writer:
    def __init__(self, max_length: int, max_levels: int) -> None:
        self._max_length = max_length
        self._max_levels = max_levels
        self._left = max_length
        self._parts: list[str] = []
        self._open: set[int] = set()

    def text(self, obj: Any) -> str:
        try:
            self._value(obj, 0)
        except _Full:
            pass
        return _cut("".join(self._parts), self._max_length)

    def _put(self, text: str) -> None:
        self._parts.append(text)
        self._left -= len(text)
        if self._left < 0:
            raise _Full

    def _value(self, obj: Any, level: int) -> None:
        own: Any = cast("type[Any]", type(obj)).__repr__
        if own is _REPRS["str"]:
            self._put(repr(str.__str__(obj)[: self._left + 1]))
        elif own is _REPRS["bytes"]:
            self._put(self._bytes(obj))
        elif own is _REPRS["bytearray"]:
            self._put(f"bytearray({self._bytes(bytes(obj[: self._left + 1]))})")
        elif own is _REPRS["dict"]:
            self._mapping(obj, level)
        elif own is _REPRS["list"]:
            self._sequence(obj, "[", "]", level)
        elif own is _REPRS["tuple"]:
            self._sequence(obj, "(", ",)" if len(obj) == 1 else ")", level)
        elif own is _REPRS["set"] and obj:
            self._sequence(obj, "{", "}", level)
        elif own is _REPRS["frozenset"] and obj:
            self._sequence(obj, "frozenset({", "})", level)
        else:
            self._put(self._other(obj))

    def _bytes(self, value: bytes) -> str:
        shown = value[: self._left + 1]
        try:
            shown.decode()
        except UnicodeDecodeError as error:
            if len(shown) == len(value) or error.reason != "unexpected end of data":
                return f"b'{shown.hex()}'"
        return repr(shown)

    def _other(self, obj: Any) -> str:
        try:
            text = repr(obj)
        except Exception as error:
            return _unrepresentable(obj, error)
        if len(text) > self._left:
            text = text[: self._left + 1]
        return text if text.isascii() else text.encode("utf-8", "backslashreplace").decode()

    def _enter(self, obj: Any, level: int) -> bool:
        if id(obj) in self._open or level >= self._max_levels:
            return False
        self._open.add(id(obj))
        return True

    def _sequence(self, values: Iterable[Any], start: str, end: str, level: int) -> None:
        self._put(start)
        separator = ""
        if not values:
            pass
        elif self._enter(values, level):
            for value in values:
                self._put(separator)
                separator = ", "
                self._value(value, level + 1)
            self._open.discard(id(values))
        else:
            self._put("...")
        self._put(end)

    def _mapping(self, values: Mapping[Any, Any], level: int) -> None:
        self._put("{")
        separator = ""
        if not values:
            pass
        elif self._enter(values, level):
            for key, value in values.items():
                self._put(separator)
                separator = ", "
                self._value(key, level + 1)
                self._put(": ")
                self._value(value, level + 1)
            self._open.discard(id(values))
        else:
            self._put("...")
        self._put("}")
