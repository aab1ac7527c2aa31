"""Many rows in one PostgreSQL statement: columns that vary travel as arrays, the others as single values.

Most columns of a batch are the same in every row (queue, content type, state), and writing arrays costs the client
more than anything else about them.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any


def spread(rows: Sequence[Sequence[Any]], types: Sequence[str]) -> tuple[str, list[Any]]:
    """A SELECT list with its FROM clause that yields ``rows`` (at least one), in order, and its values.

    ``types`` are the columns' PostgreSQL types. Usable after ``SELECT``.
    """
    columns = list(zip(*rows, strict=True))
    varying = [number for number, column in enumerate(columns) if column.count(column[0]) != len(rows)]
    if len(rows) > 1 and not varying:
        varying = [0]
    selected: list[str] = []
    values: list[Any] = []
    for number, column in enumerate(columns):
        if number in varying:
            selected.append(f"v.c{number}")
        else:
            selected.append(f"%s::{types[number]}")
            values.append(column[0])
    if not varying:
        return ", ".join(selected), values
    arrays = ", ".join(f"%s::{types[number]}[]" for number in varying)
    names = ", ".join(f"c{number}" for number in varying)
    values += [list(columns[number]) for number in varying]
    return f"{', '.join(selected)} FROM unnest({arrays}) v ({names})", values
