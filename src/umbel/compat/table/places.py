"""Where a documented name is found: in ``umbel.compat.celery``, which has Celery's layout. As long as that is not there
at all, among Umbel's own modules."""

from __future__ import annotations

import ast
import builtins
import importlib
import inspect
import re
import sys
import textwrap
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from types import ModuleType
from typing import Any

from umbel.compat.table.names import Documented

MIRROR = "umbel.compat.celery"
PACKAGE = Path(__file__).parents[2]

HOMES = {
    "celery": ("umbel",),
    "celery._state": ("umbel.current",),
    "celery.app": ("umbel",),
    "celery.app.amqp": ("umbel.application.amqp",),
    "celery.app.control": ("umbel.control",),
    "celery.app.log": ("umbel.application.logs",),
    "celery.app.registry": ("umbel.registry",),
    "celery.app.task": ("umbel.task", "umbel.request"),
    "celery.bootsteps": ("umbel.bootsteps",),
    "celery.canvas": ("umbel.canvas",),
    "celery.exceptions": ("umbel.errors",),
    "celery.result": ("umbel.result", "umbel.groups"),
    "celery.schedules": ("umbel.schedules",),
    "celery.signals": ("umbel.signals",),
    "celery.states": ("umbel.states",),
    "celery.utils.dispatch.signal": ("umbel.signals",),
    "celery.utils.log": ("umbel.log",),
}
"""Umbel's own modules that have the names of a module of Celery."""

RENAMED = {
    "celery.Celery": "Umbel",
    "celery.app.Celery": "Umbel",
    "celery.app.task.Context": "Request",
    "celery.exceptions.CeleryError": "UmbelError",
}
"""Names that are others in Umbel's own modules."""


class _Missing:
    """Stands for what is not there."""

    def __bool__(self) -> bool:
        return False


MISSING = _Missing()


def find(module: str, name: str) -> Any:
    """What ``name`` of a module of Celery is in Umbel, or MISSING."""
    for place, is_mirror in _places(module):
        try:
            return getattr(place, name if is_mirror else RENAMED.get(f"{module}.{name}", name))
        except (AttributeError, ImportError):
            continue
    return MISSING


def find_member(owner: type, name: str) -> Any:
    """A member of a class as its dict has it; None for an attribute that only its objects have; or MISSING."""
    found = inspect.getattr_static(owner, name, MISSING)
    if found is MISSING and (name in _attributes(owner) or name in dir(owner)):
        return None
    return found


@cache
def _places(module: str) -> tuple[tuple[ModuleType, bool], ...]:
    mirror = _import(f"{MIRROR}{module.removeprefix('celery')}")
    if mirror is not None:
        return ((mirror, True),)
    if _import(MIRROR) is not None:
        return ()
    own = (_import(name) for name in HOMES.get(module, ()))
    return tuple((each, False) for each in own if each is not None)


def _import(name: str) -> ModuleType | None:
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        if error.name and not f"{name}.".startswith(f"{error.name}."):
            raise
        return None


@cache
def _attributes(owner: type) -> frozenset[str]:
    """The attributes that a class of Umbel declares or sets on its objects."""
    found: set[str] = set()
    for each in owner.__mro__:
        found.update(inspect.get_annotations(each))
        if each.__module__.partition(".")[0] != "umbel" or each.__module__ not in sys.modules:
            continue
        try:
            tree = ast.parse(textwrap.dedent(inspect.getsource(each)))
        except (OSError, TypeError):
            continue
        found.update(_set_on_self(tree))
    return frozenset(found)


def _set_on_self(tree: ast.AST) -> Iterator[str]:
    for node in ast.walk(tree):
        if not (isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Store)):
            continue
        if isinstance(node.value, ast.Name) and node.value.id == "self":
            yield node.attr


def base_of(entry: Documented, base: str) -> type | None:
    """The class that a documented base is, if it can be found."""
    found = find(entry.module, base) or getattr(builtins, base, None)
    return found if isinstance(found, type) else None


NO_USE = (("config", "sections"), ("compat", "table"), ("options.py",))
"""Where settings and options are declared or listed, not used."""


@cache
def whole_source(compat: bool = False) -> str:
    """The source of Umbel, with ``compat`` or without; never what only declares or lists names."""
    inside = ((path, path.relative_to(PACKAGE).parts[:2]) for path in sorted(PACKAGE.rglob("*.py")))
    return "\n".join(
        path.read_text(encoding="utf-8")
        for path, parts in inside
        if parts not in NO_USE and (compat or parts[0] != "compat")
    )


@cache
def words_of_source() -> frozenset[str]:
    """All words in that source: what is not among them is used nowhere."""
    return frozenset(re.findall(r"\w+", whole_source()))


def source_of(*parts: str) -> str:
    """The source of a module of Umbel, "" where there is none."""
    path = PACKAGE.joinpath(*parts)
    return path.read_text(encoding="utf-8") if path.exists() else ""
