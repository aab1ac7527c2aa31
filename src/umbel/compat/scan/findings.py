"""What the scan has to say about one place in a project."""

from __future__ import annotations

import enum

from msgspec import Struct


class Level(enum.StrEnum):
    """``MISSING``: this fails on Umbel. ``DIFFERS``: it works in another way. ``IGNORED``: it has no effect.
    ``UNREADABLE``: a file that is no Python."""

    MISSING = "missing"
    DIFFERS = "differs"
    IGNORED = "ignored"
    UNREADABLE = "unreadable"


class Finding(Struct, frozen=True, order=True):
    """``what`` is used in a line of a file, and ``why`` that is worth a word."""

    file: str
    line: int
    level: Level
    what: str
    why: str

    def __str__(self) -> str:
        return f"{self.file}:{self.line}: {self.level}: {self.what}: {self.why}"
