"""Checks a value against the declared type of its setting, and converts what can be converted without guessing.

Values from the program keep their type, save for: whole numbers for fractions and the reverse, 0 and 1 for booleans,
``timedelta`` for seconds, tuples and sets for lists, one string for a list of strings, paths for strings, strings for
bytes. Lists and dicts that fit are kept, not copied.

Values from the environment are text and are read as the declared type: numbers, ``true/false/1/0/yes/no/on/off``,
``none``, comma-separated lists, JSON for lists and dicts.
"""

import os
import types
import typing
from collections.abc import Callable, Mapping
from datetime import timedelta
from typing import Any, Literal, cast

from umbel.config.declaring import Setting
from umbel.config.masking import MASK, masked
from umbel.errors import ConfigurationError

TRUE = frozenset({"true", "1", "yes", "on"})
FALSE = frozenset({"false", "0", "no", "off"})
NONE = frozenset({"none", "null", ""})
SHOWN = 120
"""Longest representation of a wrong value, in characters, in an error."""


class Mismatch(ConfigurationError):
    """A value does not have the type that was asked for. Does not leave this package."""


def checked(declared: Setting, value: Any, origin: str, *, text: bool = False) -> Any:
    """``value`` as the type of ``declared``; ``text`` if it comes from the environment.

    Raises :class:`ConfigurationError`, which names the setting, the value (unless secret), the origin and the type.
    """
    try:
        fitted = _fit(declared.type, value, text)
    except Mismatch:
        raise ConfigurationError(
            f"{declared.name} must be {describe(declared.type)}, not {_shown(declared, value)} ({origin})"
        ) from None
    low = declared.minimum
    if low is not None and isinstance(fitted, (int, float)) and not fitted >= low:
        raise ConfigurationError(f"{declared.name} must be at least {low:g}, not {_shown(declared, value)} ({origin})")
    return fitted


def describe(kind: Any) -> str:
    """A type as documentation and errors name it."""
    if kind is None or kind is types.NoneType:
        return "None"
    if _is_union(kind):
        return " | ".join(describe(member) for member in kind.__args__)
    origin = getattr(kind, "__origin__", None)
    if origin is Literal:
        return " | ".join(repr(choice) for choice in kind.__args__)
    if origin in (list, dict):
        return f"{origin.__name__}[{', '.join(describe(member) for member in kind.__args__)}]"
    if origin is Callable:
        return "function"
    if origin is type:
        return "class"
    return "any" if kind is Any else str(kind.__name__)


def _shown(declared: Setting, value: Any) -> str:
    safe = masked(declared, value)
    shown = MASK if safe is MASK else repr(safe)
    if len(shown) > SHOWN:
        shown = shown[:SHOWN] + "…"
    return f"{shown} of type {type(value).__name__}" if not isinstance(value, str) else shown


def _is_union(kind: Any) -> bool:
    return isinstance(kind, types.UnionType) or getattr(kind, "__origin__", None) is typing.Union


def _fit(kind: Any, value: Any, text: bool) -> Any:
    if _is_union(kind):
        return _fit_union(kind.__args__, value, text)
    origin = getattr(kind, "__origin__", kind)
    reader = _READERS.get(origin)
    if reader is not None:
        return reader(kind, value, text)
    if isinstance(value, origin):
        return value
    raise Mismatch


def _fit_union(members: tuple[Any, ...], value: Any, text: bool) -> Any:
    if not text:
        for member in members:
            if type(value) is getattr(member, "__origin__", member):
                return _fit(member, value, False)
    readable = sorted(members, key=_reading_order) if text else members
    for member in readable:
        if text and str in members and _is_container(member) and not value.lstrip().startswith(("[", "{")):
            continue
        try:
            return _fit(member, value, text)
        except Mismatch:
            continue
    raise Mismatch


def _reading_order(member: Any) -> int:
    if member is types.NoneType:
        return 0
    return 2 if member is str else 1


def _is_container(kind: Any) -> bool:
    return getattr(kind, "__origin__", kind) in (list, dict)


def _any(kind: Any, value: Any, text: bool) -> Any:
    if not text:
        return value
    import json

    try:
        return json.loads(value)
    except ValueError:
        return value


def _none(kind: Any, value: Any, text: bool) -> None:
    if value is not None and not (text and value.strip().lower() in NONE):
        raise Mismatch


def _bool(kind: Any, value: Any, text: bool) -> bool:
    if text:
        word = value.strip().lower()
        if word in TRUE or word in FALSE:
            return word in TRUE
    elif isinstance(value, int) and value in (0, 1):
        return bool(value)
    raise Mismatch


def _float(kind: Any, value: Any, text: bool) -> float:
    if text:
        try:
            value = float(value)
        except ValueError:
            raise Mismatch from None
    elif isinstance(value, timedelta):
        value = value.total_seconds()
    elif isinstance(value, bool) or not isinstance(value, (int, float)):
        raise Mismatch
    if value != value:
        raise Mismatch
    return float(value)


def _int(kind: Any, value: Any, text: bool) -> int:
    if text:
        try:
            return int(value)
        except ValueError:
            raise Mismatch from None
    if isinstance(value, int) and not isinstance(value, bool):
        return value
    seconds = _float(kind, value, False)
    if not seconds.is_integer():
        raise Mismatch
    return int(seconds)


def _str(kind: Any, value: Any, text: bool) -> str:
    if isinstance(value, str):
        return value
    if isinstance(value, os.PathLike):
        path = os.fspath(cast("os.PathLike[Any]", value))
        if isinstance(path, str):
            return path
    raise Mismatch


def _bytes(kind: Any, value: Any, text: bool) -> bytes:
    if isinstance(value, bytes):
        return value
    return _str(kind, value, text).encode()


def _list(kind: Any, value: Any, text: bool) -> list[Any]:
    if text:
        stripped = value.strip()
        if stripped.startswith("["):
            value = _json(stripped)
        else:
            value = [part.strip() for part in stripped.split(",") if part.strip()]
    elif isinstance(value, str) and kind.__args__[0] is str:
        value = [value]
    if isinstance(value, (set, frozenset)):
        value = sorted(cast("set[Any]", value), key=str)
    if not isinstance(value, (list, tuple)):
        raise Mismatch
    items = cast("list[Any]", value)
    fitted = [_fit(kind.__args__[0], item, False) for item in items]
    unchanged = isinstance(value, list) and all(a is b for a, b in zip(fitted, items, strict=True))
    return items if unchanged else fitted


def _dict(kind: Any, value: Any, text: bool) -> dict[str, Any]:
    if text:
        value = _json(value)
    if not isinstance(value, Mapping):
        raise Mismatch
    held = cast("dict[Any, Any]", value) if isinstance(value, dict) else dict(cast("Mapping[Any, Any]", value))
    if not all(isinstance(key, str) for key in held):
        raise Mismatch
    return held


def _json(text: str) -> Any:
    import json

    try:
        return json.loads(text)
    except ValueError:
        raise Mismatch from None


def _choice(kind: Any, value: Any, text: bool) -> Any:
    for choice in kind.__args__:
        if (type(value) is type(choice) and value == choice) or (text and value == str(choice)):
            return choice
    raise Mismatch


def _function(kind: Any, value: Any, text: bool) -> Any:
    if not callable(value):
        raise Mismatch
    return value


_READERS: dict[Any, Callable[[Any, Any, bool], Any]] = {
    Any: _any,
    types.NoneType: _none,
    bool: _bool,
    int: _int,
    float: _float,
    str: _str,
    bytes: _bytes,
    list: _list,
    dict: _dict,
    Literal: _choice,
    Callable: _function,
}
