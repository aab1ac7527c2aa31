"""Display strings: bounded, quick, and never an error."""

from __future__ import annotations

import collections
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from conformance.waiting import assert_prompt, timed
from umbel.codecs.representation import safe_repr


class Broken:
    def __repr__(self) -> str:
        raise RuntimeError("no")


class NotText:
    def __repr__(self) -> Any:
        return 5


class Surrogate:
    def __repr__(self) -> str:
        return "\ud800"


class Labelled(dict[str, Any]):
    def __repr__(self) -> str:
        return "tasks.add(2, 2)"


class BrokenDict(dict[str, Any]):
    def items(self) -> Any:
        raise RuntimeError("no")


Named = collections.namedtuple("Named", "a b")


@pytest.mark.parametrize(
    ("value", "text"),
    [
        ((2, 2), "(2, 2)"),
        ((), "()"),
        ({}, "{}"),
        (set(), "set()"),
        (("a",), "('a',)"),
        ({"a": 1, "b": None}, "{'a': 1, 'b': None}"),
        (({"a": {1}},), "({'a': {1}},)"),
        (frozenset([1]), "frozenset({1})"),
        (b"abc", "b'abc'"),
        ((b"\xff\x01",), "(b'ff01',)"),
        (bytearray(b"x"), "bytearray(b'x')"),
        ([[[[[1]]]]], "[[[[...]]]]"),
        (((((1,),),),), "((((...,),),),)"),
        ({"a": {"b": {"c": {"d": 1}}}}, "{'a': {'b': {'c': {...}}}}"),
        ([[[[]]]], "[[[[]]]]"),
        (collections.OrderedDict(a=[1]), "OrderedDict([('a', [1])])"),
        (collections.deque([1]), "deque([1])"),
        (Named(1, 2), "Named(a=1, b=2)"),
        (Labelled(), "tasks.add(2, 2)"),
        ([Broken()], "[<unrepresentable Broken: RuntimeError>]"),
        (NotText(), "<unrepresentable NotText: TypeError>"),
        (BrokenDict(a=1), "<unrepresentable BrokenDict: RuntimeError>"),
        ((10**5000, 1), "(<unrepresentable int: ValueError>, 1)"),
        ((Surrogate(), "\ud800"), "(\\ud800, '\\ud800')"),
    ],
    ids=lambda value: str(type(value)),
)
def test_text(value: Any, text: str) -> None:
    assert safe_repr(value) == text


def test_cycles() -> None:
    loop: list[Any] = [1]
    loop.append(loop)
    assert safe_repr(loop) == "[1, [...]]"
    around: dict[str, Any] = {}
    around["self"] = [around]
    assert safe_repr(around) == "{'self': [{...}]}"


@pytest.mark.parametrize(
    "value",
    ["x" * 5000, ("y" * 700, "z" * 700), list(range(5000)), {i: i for i in range(5000)}, b"\xff" * 5000, [b"a" * 5000]],
    ids=lambda value: type(value).__name__,
)
@pytest.mark.parametrize("limit", [1024, 100, 10, 3])
def test_cut(value: Any, limit: int) -> None:
    text = safe_repr(value, limit)
    assert len(text) == limit
    assert text.endswith("...")


def test_bytes_cut_inside_a_character_stay_text() -> None:
    assert safe_repr("é".encode() * 5000, 20).startswith("b'\\xc3\\xa9")


def test_large_values_are_not_walked() -> None:
    big = [b"\xff" * 50_000_000, "x" * 50_000_000, list(range(1_000_000)), bytearray(50_000_000)]

    def represent() -> None:
        for value in (*big, big, tuple(big), {"k": big[1]}):
            assert len(safe_repr(value)) == 1024

    assert_prompt(0.1, lambda: timed(represent))


scalars = st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.binary() | st.builds(Broken)
values = st.recursive(
    scalars,
    lambda inner: st.lists(inner) | st.lists(inner).map(tuple) | st.dictionaries(st.text() | st.integers(), inner),
    max_leaves=40,
)


@given(values, st.integers(3, 80))
def test_never_raises_and_never_too_long(value: Any, limit: int) -> None:
    text = safe_repr(value, limit)
    assert len(text) <= limit
    text.encode()
