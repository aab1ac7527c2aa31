"""The supervisor's memory: one heap for all its threads."""

from __future__ import annotations

import ctypes

_M_ARENA_MAX = -8


def share_one_heap() -> None:
    """Let all threads allocate from the same heap, where the C library is glibc.

    It gives every thread a heap of its own ("arena"), which pays where threads compete for memory. Here one at a time
    holds the interpreter, and what one thread allocates another frees: each heap would keep its holes. Source:
    mallopt(3), ``M_ARENA_MAX``. Concerns threads that have not allocated yet.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        mallopt(_M_ARENA_MAX, 1)
