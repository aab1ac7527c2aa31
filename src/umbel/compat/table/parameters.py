"""Whether something of Umbel can be called as Celery documents it."""

from __future__ import annotations

import ast
import inspect
from collections.abc import Iterable, Mapping
from inspect import Parameter
from typing import Any, cast

from msgspec import Struct, field

from umbel.compat.table.names import UNKNOWN, Parameters

_POSITIONAL = (Parameter.POSITIONAL_ONLY, Parameter.POSITIONAL_OR_KEYWORD)
ANYTHING = Parameters(rest=True, named=True)
"""What is documented as ``*args, **kwargs`` only passes them on: it says nothing of what may be given."""

_SAME = {"{}": "()", "[]": "()", "set()": "()"}
"""Empty collections are as good as each other for a default."""


class Mismatch(Struct):
    """``wrong``: what cannot be given as documented, in words. ``by_name``: parameters that must be given by name."""

    wrong: list[str] = field(default_factory=list[str])
    by_name: list[str] = field(default_factory=list[str])

    @property
    def text(self) -> str:
        """In words; empty when there is nothing to say."""
        parts = list(self.wrong)
        if self.by_name:
            parts.append(f"by name only: {_listed(self.by_name)}")
        return "; ".join(parts)


def signature_of(found: Any, method: bool) -> inspect.Signature | None:
    """How ``found`` is called, of a method without ``self``; None where Python cannot tell."""
    if isinstance(found, (classmethod, staticmethod)):
        method = isinstance(found, classmethod)
        found = cast("Any", found).__func__
    try:
        signature = inspect.signature(found)
    except (TypeError, ValueError):
        return None
    if method and not isinstance(found, type):
        signature = signature.replace(parameters=list(signature.parameters.values())[1:])
    return signature


def compare(documented: Parameters, signature: inspect.Signature) -> Mismatch:
    """What of the documented parameters ``signature`` does not take as documented."""
    found = Mismatch()
    if documented == ANYTHING:
        return found
    real = signature.parameters
    positional = [name for name, each in real.items() if each.kind in _POSITIONAL]
    rest = any(each.kind is Parameter.VAR_POSITIONAL for each in real.values())
    named = any(each.kind is Parameter.VAR_KEYWORD for each in real.values())
    missing: list[str] = []
    for index, (name, default) in enumerate(documented.names):
        each = real.get(name)
        if each is None or each.kind in (Parameter.VAR_POSITIONAL, Parameter.VAR_KEYWORD):
            if index < len(positional) and positional[index] not in dict(documented.names):
                found.wrong.append(f"`{name}` is called `{positional[index]}`")
            elif named:
                found.by_name.append(name)
            elif not rest:
                missing.append(name)
            continue
        if each.kind is Parameter.KEYWORD_ONLY or positional.index(name) != index:
            found.by_name.append(name)
        _compare_default(name, default, each, found)
    for name, default in documented.keywords:
        each = real.get(name)
        if each is None:
            if not named:
                missing.append(name)
        else:
            _compare_default(name, default, each, found)
    if missing:
        found.wrong.append(f"no {_listed(missing)}")
    if documented.rest and not rest and len(positional) <= len(documented.names):
        found.wrong.append("no `*args`")
    if documented.named and not named:
        found.wrong.append("no further keyword arguments")
    if documented.complete:
        found.wrong += _required(documented, real)
    return found


def _required(documented: Parameters, real: Mapping[str, Parameter]) -> list[str]:
    """Parameters that must be given although they are not documented."""
    known = {name for name, _ in (*documented.names, *documented.keywords)}
    extra = [
        name
        for index, (name, each) in enumerate(real.items())
        if each.default is Parameter.empty
        and each.kind not in (Parameter.VAR_POSITIONAL, Parameter.VAR_KEYWORD)
        and name not in known
        and not (each.kind in _POSITIONAL and (index < len(documented.names) or documented.rest))
    ]
    return [f"{_listed(extra)} must be given"] if extra else []


def _compare_default(name: str, documented: str | None, real: Parameter, found: Mismatch) -> None:
    if documented is None:
        return
    if real.default is Parameter.empty:
        found.wrong.append(f"`{name}` must be given")
    elif not same_default(documented, real.default):
        found.wrong.append(f"`{name}` is {shown(real.default)} by default, not {documented}")


def same_default(documented: str, real: Any) -> bool:
    """Whether a default is the documented one, where that is a literal and this one can be compared with it."""
    if documented == UNKNOWN:
        return True
    text = shown(real)
    if text == UNKNOWN or _SAME.get(documented, documented) == _SAME.get(text, text):
        return True
    try:
        return bool(ast.literal_eval(documented) == real)
    except (ValueError, SyntaxError):
        return False


def shown(value: Any) -> str:
    """A default as it is written; ``...`` for what is no literal."""
    text = repr(value)
    try:
        ast.literal_eval(text)
    except (ValueError, SyntaxError):
        return text if text == "set()" else UNKNOWN
    return text


def _listed(names: Iterable[str]) -> str:
    return ", ".join(f"`{name}`" for name in names)
