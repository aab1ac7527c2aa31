"""``celery.utils.saferepr``: texts of bounded length for any value."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator
from typing import Any

from umbel.codecs.representation import safe_repr

__all__ = ["reprstream", "saferepr"]


def saferepr(o: Any, maxlen: int | None = None, maxlevels: int = 3, seen: set[int] | None = None) -> str:
    """``repr(o)``, of at most ``maxlen`` characters (None: as many as there are), cut with ``...``.

    What is nested deeper than ``maxlevels`` is left out. ``seen`` has no effect.
    """
    return safe_repr(o, _UNBOUNDED if maxlen is None else maxlen, maxlevels)


def reprstream(
    stack: deque[Any],
    seen: set[int] | None = None,
    maxlevels: int = 3,
    level: int = 0,
    isinstance: Callable[..., bool] = isinstance,
) -> Iterator[Any]:
    """The texts of all items of the iterators on ``stack``, each with its iterator."""
    while stack:
        items = stack.popleft()
        for item in items:
            yield saferepr(item, None, maxlevels), items


_UNBOUNDED = 2**31
