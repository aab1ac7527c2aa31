"""Arrays reach PostgreSQL as they are, whatever is in them; what it cannot hold is refused, not tried again."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from umbel.brokers.sql.arrays import BigIntegers, Blobs, Floats, Integers, Texts, spread
from umbel.brokers.sql.database import Database, Link
from umbel.errors import BrokerError


@pytest.fixture
def link(postgresql_url: str) -> Iterator[Link]:
    database = Database(postgresql_url, refusal=BrokerError)
    with database.borrowed() as link:
        yield link
    database.close()


@pytest.mark.parametrize(
    ("kind", "array"),
    [
        ("text", Texts(["", "plain", "Straße 🌿", "a,b\"c'{}\\ \n", "NULL", None])),
        ("bytea", Blobs([b"", b"\x00\xff\\", bytes(range(256)), b"x" * 100_000, None])),
        ("int", Integers([0, -1, 2**31 - 1, -(2**31), None])),
        ("bigint", BigIntegers([0, -1, 2**63 - 1, -(2**63), None])),
        ("float8", Floats([0, -1.5, 1e300, 1790000000.123456, None])),
    ],
)
def test_array_arrives_as_it_was(link: Link, kind: str, array: list[Any]) -> None:
    for items in (array, array[:-1], array[:1], array[-1:], []):
        (row,) = link.rows(
            f"SELECT coalesce(array_length(a, 1), 0), a FROM (SELECT %s::{kind}[] AS a) given", [type(array)(items)]
        )
        assert row == (len(items), list(items))


@pytest.mark.parametrize(
    ("kind", "array"),
    [("text", Texts(["a", "\0"])), ("text", Texts(["a", "\ud800"])), ("int", Integers([1, 2**31]))],
)
def test_what_no_column_holds_is_refused(link: Link, kind: str, array: list[Any]) -> None:
    with pytest.raises(BrokerError):
        link.rows(f"SELECT %s::{kind}[]", [array])
    assert link.value("SELECT 1") == 1


@pytest.mark.parametrize("count", [1, 2, 1000])
def test_rows_are_spread_and_come_back_in_order(link: Link, count: int) -> None:
    types = ("text", "int", "bytea", "timestamp", "text", "float8")
    moment = "2026-01-31 23:59:59.123456"
    rows = [(f"id{n}", n, b"same", moment.replace("31", f"{n % 28 + 1:02}"), None, n / 2) for n in range(count)]
    selected, values = spread(rows, types)
    found = link.rows(
        f"SELECT c0, c1, c2, c3::text, c4, c5 FROM (SELECT {selected}) s (c0, c1, c2, c3, c4, c5)", values
    )
    assert found == rows
    same = [("a", 1, b"b", moment, None, 0.5)] * count
    selected, values = spread(same, types)
    assert len(link.rows(f"SELECT {selected}", values)) == count
