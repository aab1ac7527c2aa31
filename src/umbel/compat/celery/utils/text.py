"""``celery.utils.text``: cutting, joining and filling text."""

from __future__ import annotations

import pprint
import re
import textwrap
from collections.abc import Callable, Mapping
from re import Pattern
from typing import Any, cast

__all__ = [
    "abbr",
    "abbrtask",
    "dedent",
    "dedent_initial",
    "ensure_newlines",
    "ensure_sep",
    "fill_paragraphs",
    "indent",
    "join",
    "pluralize",
    "pretty",
    "simple_format",
    "str_to_list",
    "truncate",
]

_FORMAT = re.compile(r"%([%\w])")


def abbr(S: str, max: int, ellipsis: str | bool | None = "...") -> str:
    """``S`` cut to ``max`` characters, with ``ellipsis`` among them."""
    if len(S) <= max:
        return S
    mark = ellipsis if isinstance(ellipsis, str) else "..." if ellipsis else ""
    return S[: max - len(mark)] + mark


def abbrtask(S: str, max: int) -> str:
    """A task's name cut to about ``max`` characters, of which its function's name stays: ``proj[.]add``."""
    if len(S) <= max:
        return S
    module, _, task = S.rpartition(".")
    return f"{abbr(module, max - len(task) - 3, False)}[.]{task}"


def dedent(s: str, sep: str = "\n") -> str:
    """The lines of ``s`` without what the first one is indented by, up to four characters."""
    return sep.join(dedent_initial(line) for line in s.splitlines())


def dedent_initial(s: str, n: int = 4) -> str:
    """``s`` without ``n`` blanks at its beginning, if it has them."""
    return s[n:] if s[:n] == " " * n else s


def ensure_newlines(s: str, n: int = 2) -> str:
    """``s`` with at least ``n`` ends of line at its end."""
    return ensure_sep("\n", s, n)


def ensure_sep(sep: str, s: str, n: int = 2) -> str:
    """``s`` with at least ``n`` times ``sep`` at its end."""
    return s + sep * (n - (len(s) - len(s.rstrip(sep))))


def fill_paragraphs(s: str, width: int, sep: str = "\n") -> str:
    """Each paragraph of ``s`` wrapped to lines of ``width``."""
    return sep.join(textwrap.fill(paragraph, width) for paragraph in s.split(sep))


def indent(t: str, indent: int = 0, sep: str = "\n") -> str:
    """The paragraphs of ``t``, each with so many blanks before it."""
    return sep.join(" " * indent + paragraph for paragraph in t.split(sep))


def join(l: list[str], sep: str = "\n") -> str:  # noqa: E741 - Celery's name of the argument
    """Those parts that are not empty, with ``sep`` between them."""
    return sep.join(part for part in l if part)


def pluralize(n: float, text: str, suffix: str = "s") -> str:
    """``text`` for one, with ``suffix`` for any other number."""
    return text if n == 1 else text + suffix


def pretty(value: Any, width: int = 80, nl_width: int = 80, sep: str = "\n", **kw: Any) -> str:
    """A value formatted to be read; a dict begins on a line of its own."""
    if isinstance(value, dict):
        shown = pprint.pformat(cast("dict[Any, Any]", value), 4, nl_width)
        return f"{sep} {shown[1:]}"
    return pprint.pformat(value, width=width, **kw)


def str_to_list(s: Any) -> Any:
    """The parts between commas of a text; anything else as it is."""
    return s.split(",") if isinstance(s, str) else s


def simple_format(
    s: str, keys: Mapping[str, str | Callable[[], str]], pattern: Pattern[str] = _FORMAT, expand: str = r"\1"
) -> str:
    """``s`` with ``%n`` replaced by ``keys["n"]``, or by what that returns; ``%%`` is a percent sign.

    Raises ValueError for a format that is not among ``keys``.
    """

    def value(found: re.Match[str]) -> str:
        key = found.expand(expand)
        if key == "%" and key not in keys:
            return "%"
        if key not in keys:
            raise ValueError(f"unknown format %{key} in {s!r}; a percent sign is written %%")
        known = keys[key]
        return known() if callable(known) else known

    return pattern.sub(value, s) if s else s


def truncate(s: str, maxlen: int = 128, suffix: str = "...") -> str:
    """The first ``maxlen`` characters of ``s``, and ``suffix`` if there were more."""
    return s[:maxlen].rsplit(" ", 1)[0] + suffix if maxlen and len(s) >= maxlen else s
