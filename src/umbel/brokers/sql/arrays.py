"""Many rows in one PostgreSQL statement: columns that vary travel as arrays, the others as single values.

Most columns of a batch are the same in every row (queue, content type, state), and writing arrays costs the client
more than anything else about them. The classes here mark a list as an array of one type; ``binary`` writes them.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any


class Texts(list[str | None]):
    """``text[]``."""


class Blobs(list[bytes | None]):
    """``bytea[]``."""


class Integers(list[int | None]):
    """``int[]``."""


class BigIntegers(list[int | None]):
    """``bigint[]``."""


class Floats(list[float | None]):
    """``float8[]``."""


_ARRAYS: dict[str, type[list[Any]]] = {"text": Texts, "bytea": Blobs, "int": Integers, "float8": Floats}


def spread(rows: Sequence[Sequence[Any]], types: Sequence[str]) -> tuple[str, list[Any]]:
    """A SELECT list with its FROM clause that yields ``rows`` (at least one), in order, and its values.

    ``types`` are the columns' PostgreSQL types; a column of a type without arrays here is one of texts that are cast.
    Usable after ``SELECT``.
    """
    columns = list(zip(*rows, strict=True))
    varying = [number for number, column in enumerate(columns) if column.count(column[0]) != len(rows)]
    if len(rows) > 1 and not varying:
        varying = [0]
    selected: list[str] = []
    values: list[Any] = []
    arrays: list[str] = []
    for number, (column, kind) in enumerate(zip(columns, types, strict=True)):
        if number not in varying:
            selected.append(f"%s::{kind}")
            values.append(column[0])
        elif kind in _ARRAYS:
            selected.append(f"v.c{number}")
            arrays.append(f"%s::{kind}[]")
        else:
            selected.append(f"v.c{number}::{kind}")
            arrays.append("%s::text[]")
    if not varying:
        return ", ".join(selected), values
    names = ", ".join(f"c{number}" for number in varying)
    values += [_ARRAYS.get(types[number], Texts)(columns[number]) for number in varying]
    return f"{', '.join(selected)} FROM unnest({', '.join(arrays)}) v ({names})", values
