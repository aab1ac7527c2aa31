"""The page ``docs/reference/celery-compatibility.md``, from the verdicts."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator

from umbel.compat.table.modules import judge_modules
from umbel.compat.table.reasons import DIFFERENT, IMPLEMENTED, NOT, Reasons, Verdict, read_reasons
from umbel.compat.table.surfaces import SURFACES

INTRODUCTION = """\
# Compatibility with Celery

<!-- Written by `python -m umbel.compat.table docs/reference/celery-compatibility.md`; do not edit. The reasons are in
src/umbel/compat/table/differences.txt. -->

Every name that Celery 5.7 documents, and what has become of it in Umbel:

- **implemented**: it is where a Celery project looks for it, and takes the documented arguments under their names, with
  the documented defaults. A test proves that for every name when this page is written.
- **different**: it is there; the table says how it differs. *By name only* means that arguments must be given by name.
- **not**: it is not there; the table says why.

What is documented with `*args, **kwargs` alone is compared by name only. Modules are those that a project
imports as `celery`.
"""

Sections = dict[str, list[Verdict]]


def verdicts(reasons: Reasons) -> Sections:
    """All verdicts by the heading that they are shown under."""
    found: Sections = {title: list(judge(reasons)) for title, judge in SURFACES.items()}
    return found | {f"`{module}`": each for module, each in judge_modules(reasons).items() if each}


def page(sections: Sections | None = None) -> str:
    """The page in Markdown; ``sections``: verdicts that are there already."""
    return "\n".join(_lines(verdicts(read_reasons()) if sections is None else sections))


def _lines(sections: Sections) -> Iterator[str]:
    yield INTRODUCTION
    yield "| | implemented | different | not |"
    yield "| --- | ---: | ---: | ---: |"
    surfaces = {title: each for title, each in sections.items() if title in SURFACES}
    modules = [each for title, each in sections.items() if title not in SURFACES]
    for title, each in (*surfaces.items(), ("Modules", [verdict for every in modules for verdict in every])):
        counts = Counter(verdict.verdict for verdict in each)
        yield f"| {title} | {counts[IMPLEMENTED]} | {counts[DIFFERENT]} | {counts[NOT]} |"
    yield ""
    for title, each in sections.items():
        yield f"## {title}\n"
        yield from _table(each)
        yield ""


def _table(verdicts: Iterable[Verdict]) -> Iterator[str]:
    """Rows, where names that share a verdict and its text share a row."""
    rows: dict[tuple[str, str, str], list[str]] = {}
    for each in verdicts:
        rows.setdefault((each.group, each.verdict, each.text), []).append(f"`{each.name}`")
    yield "| name | Umbel | how, or why |"
    yield "| --- | --- | --- |"
    for (group, verdict, text), names in rows.items():
        shown = f"**{group}**: {', '.join(names)}" if group else ", ".join(names)
        yield f"| {shown} | {verdict} | {text.replace('|', '&#124;')} |"
