"""``differences.txt``: why names of Celery are missing or different.

A line that begins with ``not:`` or ``different:`` gives a reason, the indented lines below it the names that it is
about, where ``*`` stands for anything. Of several reasons for a name the one that names it holds, else the one
whose pattern is longest.
"""

from __future__ import annotations

import fnmatch
import re
from collections.abc import Iterable
from pathlib import Path

from msgspec import Struct

FILE = Path(__file__).with_name("differences.txt")
IMPLEMENTED, DIFFERENT, NOT = "implemented", "different", "not"


class Verdict(Struct, frozen=True):
    """What has become of a name. ``group``: what it is shown under. ``text``: how it differs, or why it is missing;
    empty for a missing name that nobody has explained."""

    group: str
    name: str
    verdict: str
    text: str = ""


class Pattern(Struct, frozen=True):
    glob: str
    match: re.Pattern[str]
    text: str


class Reasons:
    """The reasons, and which of them were needed."""

    def __init__(self, lines: Iterable[str]) -> None:
        self.patterns: dict[str, list[Pattern]] = {NOT: [], DIFFERENT: []}
        self._used: set[tuple[str, str]] = set()
        self._paths: list[str] = []
        kind = text = ""
        for line in lines:
            if not line.strip() or line.startswith("#"):
                continue
            if line.startswith(" "):
                glob = line.strip()
                self.patterns[kind].append(Pattern(glob, re.compile(fnmatch.translate(glob)), text))
            else:
                kind, _, text = line.strip().partition(": ")
        for patterns in self.patterns.values():
            patterns.sort(key=lambda pattern: ("*" not in pattern.glob, len(pattern.glob)), reverse=True)

    def why(self, kind: str, name: str) -> str:
        """The reason of this kind for a name, or ""."""
        self._paths.append(name)
        for pattern in self.patterns[kind]:
            if pattern.match.match(name):
                self._used.add((kind, pattern.glob))
                return pattern.text
        return ""

    def stale(self) -> list[str]:
        """The patterns for one name that did not need them, and those with stars that are about no name at all."""
        return sorted(
            f"{kind}: {each.glob}"
            for kind, patterns in self.patterns.items()
            for each in patterns
            if (kind, each.glob) not in self._used
            and not ("*" in each.glob and any(each.match.match(path) for path in self._paths))
        )

    def judge(self, group: str, name: str, path: str, found: bool, wrong: str = "") -> Verdict:
        """The verdict on the name with this ``path``: whether it was found, and what of it is wrong."""
        if not found:
            return Verdict(group, name, NOT, self.why(NOT, path))
        why = self.why(DIFFERENT, path)
        text = ". ".join(each for each in (why.removesuffix("."), wrong) if each)
        return Verdict(group, name, DIFFERENT if text else IMPLEMENTED, text)


def read_reasons() -> Reasons:
    return Reasons(FILE.read_text(encoding="utf-8").splitlines())
