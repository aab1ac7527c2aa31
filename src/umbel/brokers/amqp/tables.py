"""Message headers on the wire: JSON objects as AMQP field tables and back.

Types are written as Celery writes them (text ``S``, integers ``I`` or ``l``, reals ``d``, ``t``, ``V``, ``A``, ``F``).
What is JSON comes back as the same JSON. What only other clients write becomes JSON: a timestamp an ISO 8601 moment in
UTC, a decimal its text, bytes their text, or base64 where they are not UTF-8.
"""

from __future__ import annotations

import base64
import datetime
import decimal
import struct
from collections.abc import Callable, Mapping
from typing import Any, cast

from umbel.errors import DecodeError, EncodeError

_LONGEST_NAME = 255
_NAMES_KEPT = 4096
_LARGEST_LAYOUT = 2048
_LAYOUTS_KEPT = 1024
_LAYOUTS_OF_A_SIZE = 4

_pack_length = struct.Struct(">cI").pack
_pack_int = struct.Struct(">ci").pack
_pack_long = struct.Struct(">cq").pack
_pack_real = struct.Struct(">cd").pack
_length_at = struct.Struct(">I").unpack_from

_names: dict[str, bytes] = {}
_decoded_names: dict[bytes, str] = {}


def encode_table(table: Mapping[str, Any]) -> bytes:
    """``table`` as an AMQP field table with its length in front.

    Raises EncodeError for names over 255 bytes and integers over 64 bits, which AMQP has no place for.
    """
    parts: list[bytes] = []
    for name, value in table.items():
        parts.append(_names.get(name) or _encode_name(name))
        parts.append(_encode_value(value))
    body = b"".join(parts)
    return len(body).to_bytes(4, "big") + body


def _encode_name(name: str) -> bytes:
    raw = name.encode()
    if len(raw) > _LONGEST_NAME:
        raise EncodeError(f"the header name {name[:40]!r}… has {len(raw)} bytes; AMQP takes at most {_LONGEST_NAME}")
    encoded = bytes((len(raw),)) + raw
    if len(_names) < _NAMES_KEPT:
        _names[name] = encoded
    return encoded


def _encode_value(value: Any) -> bytes:
    if value is None:
        return b"V"
    kind = cast(Any, type(value))
    if kind is str:
        raw = value.encode()
        return _pack_length(b"S", len(raw)) + raw
    if kind is bool:
        return b"t\x01" if value else b"t\x00"
    if kind is int:
        if -0x80000000 <= value <= 0x7FFFFFFF:
            return _pack_int(b"I", value)
        if -(1 << 63) <= value < 1 << 63:
            return _pack_long(b"l", value)
        raise EncodeError(f"the integer {value} in the headers has more than 64 bits; AMQP headers cannot carry it")
    if kind is float:
        return _pack_real(b"d", value)
    if kind is list:
        body = b"".join([_encode_value(item) for item in value])
        return _pack_length(b"A", len(body)) + body
    if kind is dict:
        return b"F" + encode_table(value)
    raise EncodeError(f"headers are JSON; {kind.__name__} is not")


def decode_table(data: bytes, position: int = 0) -> tuple[dict[str, Any], int]:
    """The table at ``position`` as JSON-able data, and where it ends. Raises DecodeError when it cannot be read.

    Values that are tables or lists may be shared between results: they are not to be changed.
    """
    try:
        size = _length_at(data, position)[0]
        start = position + 4
        if start + size > len(data):
            raise ValueError("it is cut off")
        for layout in _layouts.get(size, ()):
            table = layout.read(data, start)
            if table is not None:
                return table, start + size
        texts: list[tuple[int, int, str]] = []
        table, end = _decode_table(data, position, texts)
        _remember(size, data[start:end], [(first - start, last - start, name) for first, last, name in texts], table)
        return table, end
    except (struct.error, IndexError, OverflowError, ValueError) as error:
        raise DecodeError(f"the message's header table cannot be read: {error}") from error


class _Layout:
    """A table that was decoded once. Messages of one task differ in a few texts of the same lengths; where all bytes
    between those are equal, only the texts are decoded, at a fifth of the cost."""

    __slots__ = ("_constant", "_known", "_texts")

    def __init__(self, table: dict[str, Any], constant: list[tuple[int, int, bytes]], texts: list[Any]) -> None:
        self._known = table
        self._constant = constant
        self._texts = texts

    def read(self, data: bytes, start: int) -> dict[str, Any] | None:
        """The table at ``start`` if it has this layout."""
        for first, last, raw in self._constant:
            if data[start + first : start + last] != raw:
                return None
        table = self._known.copy()
        for first, last, name in self._texts:
            table[name] = _text(data[start + first : start + last])
        return table


_layouts: dict[int, list[_Layout]] = {}


def _remember(size: int, raw: bytes, texts: list[tuple[int, int, str]], table: dict[str, Any]) -> None:
    if size > _LARGEST_LAYOUT or len(_layouts) >= _LAYOUTS_KEPT:
        return
    ends = [0, *(last for _, last, _ in texts)]
    starts = [*(first for first, _, _ in texts), size]
    constant = [(first, last, raw[first:last]) for first, last in zip(ends, starts, strict=True) if last > first]
    same_size = _layouts.setdefault(size, [])
    same_size.insert(0, _Layout(table.copy(), constant, texts))
    del same_size[_LAYOUTS_OF_A_SIZE:]


def _decode_table(
    data: bytes, position: int, texts: list[tuple[int, int, str]] | None = None
) -> tuple[dict[str, Any], int]:
    """As ``decode_table``; adds to ``texts`` where this table's own texts are."""
    end = position + 4 + _length_at(data, position)[0]
    position += 4
    table: dict[str, Any] = {}
    while position < end:
        start = position + 1
        position = start + data[position]
        raw = data[start:position]
        name = _decoded_names.get(raw) or _decode_name(raw)
        kind = data[position]
        if kind == 83:  # S
            start = position + 5
            position = start + _length_at(data, position + 1)[0]
            table[name] = _text(data[start:position])
            if texts is not None:
                texts.append((start, position, name))
        else:
            table[name], position = _decode_value(kind, data, position + 1)
    if position != end:
        raise ValueError("a value reaches over its end")
    return table, end


def _decode_name(raw: bytes) -> str:
    name = raw.decode("utf-8", "replace")
    if len(_decoded_names) < _NAMES_KEPT:
        _decoded_names[raw] = name
    return name


def _text(raw: bytes) -> str:
    try:
        return raw.decode()
    except UnicodeDecodeError:
        return base64.b64encode(raw).decode("ascii")


def _decode_value(kind: int, data: bytes, position: int) -> tuple[Any, int]:
    if kind == 70:  # F
        return _decode_table(data, position)
    if kind == 65:  # A
        end = position + 4 + _length_at(data, position)[0]
        position += 4
        items: list[Any] = []
        while position < end:
            item, position = _decode_value(data[position], data, position + 1)
            items.append(item)
        return items, end
    if kind in (83, 120):  # S, x
        start = position + 4
        end = start + _length_at(data, position)[0]
        return _text(data[start:end]), end
    if kind == 86:  # V
        return None, position
    if kind not in _SCALARS:
        raise ValueError(f"unknown field type {chr(kind)!r}")
    shape, read = _SCALARS[kind]
    return read(*shape.unpack_from(data, position)), position + shape.size


def _moment(seconds: int) -> str:
    return datetime.datetime.fromtimestamp(seconds, datetime.UTC).isoformat()


def _decimal(scale: int, digits: int) -> str:
    return str(decimal.Decimal(digits).scaleb(-scale))


_SCALARS: dict[int, tuple[struct.Struct, Callable[..., Any]]] = {
    ord(code): (struct.Struct(">" + shape), read)
    for code, shape, read in (
        ("t", "B", bool),
        ("b", "b", int),
        ("B", "B", int),
        ("s", "h", int),
        ("U", "h", int),
        ("u", "H", int),
        ("I", "i", int),
        ("i", "I", int),
        ("l", "q", int),
        ("L", "q", int),
        ("f", "f", float),
        ("d", "d", float),
        ("D", "Bi", _decimal),
        ("T", "Q", _moment),
    )
}
