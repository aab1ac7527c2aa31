"""The lists of Celery's documented names, as ``scripts/celery-names`` wrote them."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from functools import cache
from pathlib import Path

from msgspec import Struct

LISTS = Path(__file__).with_name("names")
UNKNOWN = "..."
"""Stands for a default that is no literal."""


class Parameters(Struct, frozen=True, dict=True):
    """How something is called. ``names``: what may be given by position, with defaults as text, None where it must be
    given; ``keywords``: what is given by name only; ``rest``, ``named``: whether there are ``*args`` and ``**kwargs``;
    ``complete``: whether this is all of it."""

    names: tuple[tuple[str, str | None], ...] = ()
    keywords: tuple[tuple[str, str | None], ...] = ()
    rest: bool = False
    named: bool = False
    complete: bool = True


class Documented(Struct, frozen=True):
    """One name. ``owner``: the class that it belongs to, or "". ``kind``: class, def, classmethod, staticmethod, prop,
    data or same. ``value``: the default of data, or the name that this one is the same as."""

    module: str
    owner: str
    name: str
    kind: str
    parameters: Parameters | None = None
    value: str = UNKNOWN
    bases: tuple[str, ...] = ()

    @property
    def short(self) -> str:
        """The name inside its module."""
        return f"{self.owner}.{self.name}" if self.owner else self.name

    @property
    def path(self) -> str:
        return f"{self.module}.{self.short}"


def read(name: str) -> list[str]:
    """The lines of a list."""
    return (LISTS / f"{name}.txt").read_text(encoding="utf-8").splitlines()


@cache
def documented_modules() -> dict[str, list[Documented]]:
    """The names of each module, members after their class."""
    found: dict[str, list[Documented]] = {}
    module = owner = ""
    for line in read("modules"):
        if not line.startswith(" "):
            module = line
            found[module] = []
            continue
        inside = line.startswith("  ")
        kind, _, rest = line.strip().partition(" ")
        entry = _documented(module, owner if inside else "", kind, rest)
        if not inside:
            owner = entry.name if kind == "class" else ""
        found[module].append(entry)
    return found


def _documented(module: str, owner: str, kind: str, rest: str) -> Documented:
    if kind == "same":
        name, _, value = rest.partition(" ")
        return Documented(module, owner, name, kind, value=value)
    if kind in ("prop", "data"):
        name, _, value = rest.partition(" = ")
        return Documented(module, owner, name, kind, value=value or UNKNOWN)
    signature, _, bases = rest.partition(" < ")
    name, _, inside = signature.partition("(")
    method = bool(owner) and kind != "staticmethod"
    parameters = None if inside == "...)" else parse_parameters(inside[:-1], method)
    return Documented(module, owner, name, kind, parameters, bases=tuple(bases.split(", ")) if bases else ())


def parse_parameters(text: str, method: bool) -> Parameters:
    """Parameters from their text; of a method without the first one."""
    whole = text.removesuffix(f", {UNKNOWN}")
    function = ast.parse(f"def f({whole}): pass").body[0]
    assert isinstance(function, ast.FunctionDef)
    given = function.args
    positional = [each.arg for each in (*given.posonlyargs, *given.args)]
    required: list[str | None] = [None] * (len(positional) - len(given.defaults))
    defaults = [*required, *(ast.unparse(each) for each in given.defaults)]
    keywords = (
        (each.arg, None if d is None else ast.unparse(d))
        for each, d in zip(given.kwonlyargs, given.kw_defaults, strict=True)
    )
    return Parameters(
        tuple(zip(positional, defaults, strict=True))[method:],
        tuple(keywords),
        given.vararg is not None,
        given.kwarg is not None,
        whole == text,
    )


def pairs(name: str) -> Iterator[tuple[str, list[str]]]:
    """The first word of each line of a list, and the other words."""
    for line in read(name):
        first, *others = line.split(" ")
        yield first, others
