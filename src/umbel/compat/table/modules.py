"""Verdicts on the names of Celery's modules: found where they belong, and callable as documented."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from umbel.compat.table.names import Documented, documented_modules
from umbel.compat.table.parameters import compare, same_default, shown, signature_of
from umbel.compat.table.places import MISSING, base_of, find, find_member
from umbel.compat.table.reasons import NOT, Reasons, Verdict

METHODS = ("def", "classmethod", "staticmethod")


def judge_modules(reasons: Reasons) -> dict[str, list[Verdict]]:
    """The verdicts by module."""
    return {module: list(_judge(entries, reasons)) for module, entries in documented_modules().items()}


def _judge(entries: list[Documented], reasons: Reasons) -> Iterator[Verdict]:
    owner: Any = MISSING
    above = Verdict("", "", NOT)
    for entry in entries:
        if not entry.owner:
            owner = find(entry.module, entry.name)
            above = _judge_one(entry, owner, owner, reasons)
            yield above
        elif above.verdict == NOT:
            text = reasons.why(NOT, entry.path) or above.text
            yield Verdict(entry.owner, entry.name, NOT, text)
        else:
            found = find_member(owner, entry.name) if isinstance(owner, type) else getattr(owner, entry.name, MISSING)
            yield _judge_one(entry, found, owner, reasons)


def _judge_one(entry: Documented, found: Any, owner: Any, reasons: Reasons) -> Verdict:
    if found is MISSING:
        return reasons.judge(entry.owner, entry.name, entry.path, False)
    wrong = _wrong(entry, found, owner)
    return reasons.judge(entry.owner, entry.name, entry.path, True, wrong)


def _wrong(entry: Documented, found: Any, owner: Any) -> str:
    """What is not as documented, in words."""
    if entry.kind == "same":
        module, _, name = entry.value.rpartition(".")
        other = find(module, name)
        return f"not the same as `{entry.value}`" if other and other is not found else ""
    if entry.kind == "data":
        value = getattr(owner, entry.name, None) if entry.owner else found
        if found is None or hasattr(found, "__get__") or same_default(entry.value, value):
            return ""
        return f"{shown(value)} by default, not {entry.value}"
    if entry.kind == "class":
        wrong = [f"no {base}" for base in entry.bases if not _has_base(entry, found, base)]
        return "; ".join(each for each in (*wrong, _call_differs(entry, found)) if each)
    return _call_differs(entry, found) if entry.kind in METHODS else ""


def _has_base(entry: Documented, found: Any, base: str) -> bool:
    expected = base_of(entry, base)
    return expected is None or (isinstance(found, type) and issubclass(found, expected))


def _call_differs(entry: Documented, found: Any) -> str:
    if found is None or isinstance(found, property):
        return "an attribute, not a method"
    if not callable(getattr(found, "__func__", found)):
        return "cannot be called"
    if entry.parameters is None:
        return ""
    signature = signature_of(found, method=bool(entry.owner))
    return compare(entry.parameters, signature).text if signature is not None else ""
