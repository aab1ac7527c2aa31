"""The page of pains names tests that exist."""

from __future__ import annotations

import re
from pathlib import Path

TESTS = Path(__file__).resolve().parents[1]
PAGE = TESTS.parent / "docs" / "reference" / "pains.md"


def test_every_pain_is_shown_by_tests_that_exist() -> None:
    rows = [line for line in PAGE.read_text().splitlines() if re.match(r"\| (\d+|–) \|", line)]
    assert len(rows) >= 19
    for row in rows:
        named = re.findall(r"`(\w[\w/]*\.py)(?:::(\w+))?`", row.rsplit("|", 2)[1])
        assert named, f"shown by nothing: {row}"
        for file, beginning in named:
            assert f"def {beginning or 'test_'}" in (TESTS / file).read_text(), f"{file}::{beginning}"
