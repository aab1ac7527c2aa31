"""JSON with Celery's typed extensions: moments, decimals, UUIDs and bytes survive the way.

Such a value is written as an object with exactly the keys ``__type__`` and ``__value__``. Objects with a
``__json__()`` method are written as what it returns; dataclasses, attrs classes and msgspec structs as
objects; enumerations as their values. Sets are refused, as Celery does. NaN and infinities are written as
Python's ``json`` writes them.

Writing uses the C encoder of the standard library without its per-call set-up: msgspec would be faster, but
writes dates, sets and NaN in forms of its own, and looking for them first costs more than it saves. Reading
uses msgspec, and the standard library only for what needs it: typed values, NaN, lone surrogates.
"""

from __future__ import annotations

import enum
import json
import json.encoder
import re
from collections.abc import Callable
from typing import Any, cast

import msgspec

_decode_plain = msgspec.json.Decoder().decode
_escaped_letter = re.compile(rb"\\u00[567]").search


# -- writing ---------------------------------------------------------------------------------------


def _typed(label: str, value: Any) -> dict[str, Any]:
    return {"__type__": label, "__value__": value}


def _write_bytes(value: Any) -> dict[str, Any]:
    raw = bytes(value)
    try:
        return _typed("bytes", raw.decode())
    except UnicodeDecodeError:
        from base64 import b64encode

        return _typed("base64", b64encode(raw).decode())


_Writer = Callable[[Any], Any]

# Keyed by name, so that the modules need not be imported to look.
_writers: dict[str, _Writer] = {
    "datetime.datetime": lambda value: _typed("datetime", value.isoformat()),
    "datetime.date": lambda value: _typed("date", value.isoformat()),
    "datetime.time": lambda value: _typed("time", value.isoformat()),
    "decimal.Decimal": lambda value: _typed("decimal", str(value)),
    "uuid.UUID": lambda value: _typed("uuid", {"hex": value.hex}),
    "builtins.bytes": _write_bytes,
    "builtins.bytearray": _write_bytes,
    "builtins.memoryview": _write_bytes,
}

_HINTS = {
    "set": "pass a list",
    "frozenset": "pass a list",
    "timedelta": "pass its total_seconds()",
    "complex": "pass a list of two numbers",
    "generator": "pass a list",
}

_writer_of: dict[type[Any], _Writer] = {}


def register_type(cls: type[Any], label: str, encode: Callable[[Any], Any], decode: Callable[[Any], Any]) -> None:
    """Let values of ``cls`` and its subclasses travel as ``{"__type__": label, "__value__": encode(value)}``.

    ``encode`` returns a plain JSON value, from which ``decode`` makes the object again; both sides register.
    """
    _writers[_dotted(cls)] = lambda value: _typed(label, encode(value))
    _readers[label] = decode
    _writer_of.clear()


def _dotted(cls: type[Any]) -> str:
    return f"{cls.__module__}.{cls.__qualname__}"


def _write_other(value: Any) -> Any:
    cls = cast("type[Any]", type(value))
    writer = _writer_of.get(cls)
    if writer is None:
        writer = _writer_of[cls] = _find_writer(cls)
    return writer(value)


def _find_writer(cls: type[Any]) -> _Writer:
    own = getattr(cls, "__json__", None)
    if own is not None:
        return own
    for base in cls.__mro__:
        writer = _writers.get(_dotted(base))
        if writer is not None:
            return writer
    if issubclass(cls, enum.Enum):
        return lambda value: value.value
    names = _field_names(cls)
    if names is not None:
        return lambda value: {name: getattr(value, field) for field, name in names}
    hint = _HINTS.get(cls.__name__)
    raise TypeError(f"{cls.__qualname__} has no JSON form" + (f"; {hint}" if hint else ""))


def _field_names(cls: type[Any]) -> list[tuple[str, str]] | None:
    if issubclass(cls, msgspec.Struct):
        return list(zip(cls.__struct_fields__, cls.__struct_encode_fields__, strict=True))
    fields = getattr(cls, "__dataclass_fields__", None)
    if fields is not None:
        from dataclasses import fields as dataclass_fields

        return [(field.name, field.name) for field in dataclass_fields(cls)]
    attributes = getattr(cls, "__attrs_attrs__", None)
    if attributes is not None:
        return [(attribute.name, attribute.name) for attribute in attributes]
    return None


def _make_chunks() -> Callable[[Any, int], Any]:
    make = getattr(json.encoder, "c_make_encoder", None)
    if make is None:
        encoder = json.JSONEncoder(check_circular=False, separators=(",", ":"), default=_write_other)
        return lambda value, _level: encoder.iterencode(value)
    escape = json.encoder.encode_basestring_ascii
    return cast(
        "Callable[[Any, int], Any]",
        make(None, _write_other, escape, None, ":", ",", False, False, True),
    )


_chunks = _make_chunks()


def encode(value: Any) -> bytes:
    """``value`` as ASCII JSON. Raises TypeError, ValueError or RecursionError for what has no JSON form."""
    return "".join(_chunks(value, 0)).encode("ascii")


# -- reading ---------------------------------------------------------------------------------------


def _read_datetime(value: str) -> Any:
    from datetime import datetime

    return datetime.fromisoformat(value)


def _read_date(value: str) -> Any:
    from datetime import date, datetime

    return datetime.fromisoformat(value).date() if len(value) > 10 else date.fromisoformat(value)


def _read_time(value: str) -> Any:
    from datetime import time

    return time.fromisoformat(value)


def _read_decimal(value: str) -> Any:
    from decimal import Decimal

    return Decimal(value)


def _read_uuid(value: dict[str, Any]) -> Any:
    from uuid import UUID

    return UUID(hex=value["hex"])


def _read_base64(value: str) -> bytes:
    from base64 import b64decode

    return b64decode(value, validate=True)


_readers: dict[str, Callable[[Any], Any]] = {
    "datetime": _read_datetime,
    "date": _read_date,
    "time": _read_time,
    "decimal": _read_decimal,
    "uuid": _read_uuid,
    "bytes": str.encode,
    "base64": _read_base64,
}


def _read_object(found: dict[str, Any]) -> Any:
    if len(found) != 2 or "__type__" not in found or "__value__" not in found:
        return found
    label = found["__type__"]
    reader = _readers.get(label) if isinstance(label, str) else None
    if reader is None:
        raise ValueError(f"unknown __type__ {label!r}")
    try:
        return reader(found["__value__"])
    except Exception as error:
        raise ValueError(f"__value__ {found['__value__']!r:.100} is no {label}: {error}") from error


def decode(body: bytes) -> Any:
    """The value of UTF-8 JSON. Raises ValueError (of which msgspec's errors are not all) or RecursionError."""
    if type(body) is not bytes:
        body = bytes(body)
    if body.find(b"__type__") < 0 and (body.find(b"\\u00") < 0 or _escaped_letter(body) is None):
        try:
            return _decode_plain(body)
        except (msgspec.DecodeError, UnicodeDecodeError):
            return json.loads(body.decode())
    return json.loads(body.decode(), object_hook=_read_object)
