"""Finds the value that a serializer could not write, for the message of EncodeError. Runs on failure only."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any, cast

from umbel.codecs.representation import safe_repr

_MAX_DEPTH = 50


def describe_failure(obj: Any, name: str, encode: Callable[[Any], Any], error: Exception) -> str:
    """One sentence: which value, where in ``obj``, and why serializer ``name`` refused it."""
    path, value, reason = "", obj, error
    for _ in range(_MAX_DEPTH):
        for step, child in _children(value):
            failure = _failure(child, encode)
            if failure is not None:
                path, value, reason = path + step, child, failure
                break
        else:
            break
    what = f"{safe_repr(value, 120)} ({type(value).__qualname__})"
    key = _refused_key(value, encode)
    if key is not None:
        what = f"the key {safe_repr(key, 120)} ({type(key).__qualname__})"
    where = f" at {path}" if path else ""
    return f"{name} cannot serialize {what}{where}: {reason}"


def _children(value: Any) -> Iterator[tuple[str, Any]]:
    if isinstance(value, Mapping):
        for key, child in cast("Mapping[Any, Any]", value).items():
            yield f"[{safe_repr(key, 60)}]", child
    elif isinstance(value, (list, tuple)):
        for index, child in enumerate(cast("list[Any]", value)):
            yield f"[{index}]", child


def _failure(value: Any, encode: Callable[[Any], Any]) -> Exception | None:
    try:
        encode(value)
    except Exception as error:
        return error
    return None


def _refused_key(value: Any, encode: Callable[[Any], Any]) -> Any:
    if not isinstance(value, Mapping):
        return None
    keys = cast("Mapping[Any, Any]", value)
    return next((key for key in keys if _failure({key: None}, encode) is not None), None)
