"""Removing results from the store, those before them too, in one step."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from umbel.backends.base import Backend


def forget(backend: Backend, results: Iterable[Any]) -> None:
    """Remove results, with the members of groups among them, and what came before each in its chain."""
    from umbel.results.eager import EagerResult
    from umbel.results.many import ResultSet

    stored: dict[str, None] = {}
    left = list(results)
    while left:
        found = left.pop()
        if isinstance(found, ResultSet):
            left += found.results
        elif not isinstance(found, EagerResult):
            found.forget_here()
            if found.id not in stored and found.parent is not None:
                left.append(found.parent)
            stored[found.id] = None
    if stored:
        backend.forget(list(stored))
