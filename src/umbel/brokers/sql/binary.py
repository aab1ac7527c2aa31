"""How psycopg writes the arrays of ``arrays``: in PostgreSQL's binary format, whole columns at a time.

Its own way asks for each item how it is to be written, which took a quarter of the time of a worker's supervisor.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from typing import Any

from psycopg import DataError
from psycopg.abc import AdaptContext, Buffer
from psycopg.adapt import Dumper
from psycopg.postgres import types
from psycopg.pq import Format

from umbel.brokers.sql.arrays import BigIntegers, Blobs, Floats, Integers, Texts

_header = struct.Struct("!iiIii").pack
"""Dimensions, whether there are nulls, type of the items, how many, number of the first."""
_length = struct.Struct("!i").pack
_NULL = _length(-1)


class _ArrayDumper(Dumper):
    """Writes one class of arrays. ``item`` is the type of its items; ``_encode`` writes some of them, none null."""

    format = Format.BINARY
    item = ""

    def __init__(self, cls: type, context: AdaptContext | None = None) -> None:
        super().__init__(cls, context)
        self._item_oid = types[self.item].oid
        self.oid = types[self.item].array_oid

    def dump(self, obj: Sequence[Any]) -> Buffer:
        given = [item for item in obj if item is not None]
        try:
            encoded: list[bytes | None] = [*self._encode(given)]
        except (UnicodeEncodeError, struct.error) as error:
            raise DataError(f"not of type {self.item}: {error}") from error
        header = _header(1, len(given) < len(obj), self._item_oid, len(obj), 1)
        if len(given) < len(obj):
            rest = iter(encoded)
            encoded = [None if item is None else next(rest) for item in obj]
        return header + _joined(encoded)

    def _encode(self, items: list[Any]) -> list[bytes]:
        return items


def _joined(items: list[bytes | None]) -> bytes:
    """Each item after its length."""
    return b"".join([_NULL if item is None else _length(len(item)) + item for item in items])


class _TextsDumper(_ArrayDumper):
    item = "text"

    def __init__(self, cls: type, context: AdaptContext | None = None) -> None:
        super().__init__(cls, context)
        given = self.connection.info.encoding if self.connection else "utf-8"
        self._encoding = "utf-8" if given == "ascii" else given

    def _encode(self, items: list[str]) -> list[bytes]:
        encoding = self._encoding
        return [item.encode(encoding) for item in items]


class _BlobsDumper(_ArrayDumper):
    item = "bytea"


class _NumbersDumper(_ArrayDumper):
    pack = struct.Struct("!i").pack

    def _encode(self, items: list[Any]) -> list[bytes]:
        return list(map(self.pack, items))


class _IntegersDumper(_NumbersDumper):
    item = "int4"


class _BigIntegersDumper(_NumbersDumper):
    item = "int8"
    pack = struct.Struct("!q").pack


class _FloatsDumper(_NumbersDumper):
    item = "float8"
    pack = struct.Struct("!d").pack


_DUMPERS: dict[type, type[Dumper]] = {
    Texts: _TextsDumper,
    Blobs: _BlobsDumper,
    Integers: _IntegersDumper,
    BigIntegers: _BigIntegersDumper,
    Floats: _FloatsDumper,
}


def teach(context: AdaptContext) -> None:
    """Let a cursor or connection of psycopg write these arrays."""
    for array, dumper in _DUMPERS.items():
        context.adapters.register_dumper(array, dumper)
