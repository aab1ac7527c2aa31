"""The table of compatibility with Celery: current, and nothing in it is unexplained, or called what it is not."""

from __future__ import annotations

import inspect
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from umbel.compat.table.names import LISTS, Parameters, documented_modules, parse_parameters
from umbel.compat.table.page import Sections, page, verdicts
from umbel.compat.table.parameters import compare
from umbel.compat.table.reasons import DIFFERENT, IMPLEMENTED, NOT, Reasons, read_reasons

ROOT = Path(__file__).resolve().parents[2]
PAGE = ROOT / "docs" / "reference" / "celery-compatibility.md"
DIGEST = ROOT.parent / "shared" / "api.md"
COMMAND = "python -m umbel.compat.table docs/reference/celery-compatibility.md"


@pytest.fixture(scope="module")
def judged() -> tuple[Reasons, Sections]:
    reasons = read_reasons()
    return reasons, verdicts(reasons)


def test_every_name_is_there_or_explained(judged: tuple[Reasons, Sections]) -> None:
    unexplained = [
        f"{title}: {each.group}.{each.name}".replace(": .", ": ")
        for title, several in judged[1].items()
        for each in several
        if each.verdict == NOT and not each.text
    ]
    assert unexplained == [], "give reasons in src/umbel/compat/table/differences.txt"


def test_no_reason_is_stale(judged: tuple[Reasons, Sections]) -> None:
    assert judged[0].stale() == [], "no name needs these lines of src/umbel/compat/table/differences.txt any more"


def test_the_page_is_current(judged: tuple[Reasons, Sections]) -> None:
    assert PAGE.read_text(encoding="utf-8") == page(judged[1]), f"run: {COMMAND}"


def test_the_page_is_written_by_the_command(tmp_path: Path) -> None:
    subprocess.run([sys.executable, "-m", "umbel.compat.table", tmp_path / "page.md"], check=True)
    assert (tmp_path / "page.md").read_text(encoding="utf-8") == PAGE.read_text(encoding="utf-8")


@pytest.mark.skipif(not DIGEST.exists(), reason="the digest of Celery's documentation is not beside the project")
def test_the_lists_are_those_of_the_digest(tmp_path: Path) -> None:
    subprocess.run([sys.executable, ROOT / "scripts" / "celery-names", DIGEST, tmp_path], check=True)
    assert {each.name: each.read_text() for each in tmp_path.iterdir()} == {
        each.name: each.read_text() for each in LISTS.iterdir()
    }


def test_what_every_project_uses_is_implemented(judged: tuple[Reasons, Sections]) -> None:
    found = {f"{each.group}.{each.name}".strip("."): each for each in judged[1]["`celery.app.task`"]}
    for name in (
        "delay",
        "apply_async",
        "apply",
        "retry",
        "s",
        "si",
        "replace",
        "request",
        "max_retries",
        "on_failure",
    ):
        assert found[f"Task.{name}"].verdict == IMPLEMENTED, found[f"Task.{name}"]
    assert len(documented_modules()) > 100
    assert sum(len(each) for each in documented_modules().values()) > 1800


# -- what the verdicts are made of -----------------------------------------------------------------


def same(a: Any, b: Any = (), *, c: Any = None) -> None: ...
def only_named(a: Any, *, b: Any = (), c: Any = None) -> None: ...
def other_order(b: Any = (), a: Any = None, c: Any = None) -> None: ...
def other_name(x: Any, b: Any = (), c: Any = None) -> None: ...
def other_default(a: Any, b: Any = 1, c: Any = None) -> None: ...
def anything(*args: Any, **kwargs: Any) -> None: ...
def demanding(a: Any, b: Any = (), *, c: Any = None, d: Any) -> None: ...
def lacking(a: Any) -> None: ...


@pytest.mark.parametrize(
    ("function", "wrong", "by_name"),
    [
        (same, [], []),
        (only_named, [], ["b"]),
        (other_order, [], ["a", "b"]),
        (other_name, ["`a` is called `x`"], []),
        (other_default, ["`b` is 1 by default, not ()"], []),
        (anything, [], ["a", "b"]),
        (demanding, ["`d` must be given"], []),
        (lacking, ["no `b`, `c`"], []),
    ],
)
def test_parameters_are_compared(function: Callable[..., Any], wrong: list[str], by_name: list[str]) -> None:
    found = compare(parse_parameters("a, b=(), *, c=None", method=False), inspect.signature(function))
    assert (found.wrong, found.by_name) == (wrong, by_name)


def test_documented_parameters_are_read() -> None:
    assert parse_parameters("self, a, b=..., *rest, c=1, **more", method=True) == Parameters(
        (("a", None), ("b", "...")), (("c", "1"),), True, True, True
    )
    assert not parse_parameters("a, ...", method=False).complete


def test_the_longest_pattern_gives_the_reason() -> None:
    reasons = Reasons(["not: any", "  a.*", "  z.*", "not: this", "  a.b", "  a.c", "different: how", "  a.d"])
    assert reasons.judge("", "b", "a.b", False).text == "this"
    assert reasons.judge("", "x", "a.x", False).text == "any"
    assert reasons.judge("", "d", "a.d", True).verdict == DIFFERENT
    assert reasons.judge("", "x", "a.x", True).verdict == IMPLEMENTED
    assert reasons.judge("", "x", "b.x", False).text == ""
    assert reasons.judge("", "x", "b.x", True, "no `y`").text == "no `y`"
    assert reasons.stale() == ["not: a.c", "not: z.*"]
