"""The examples of the page on testing run as they stand."""

import re
from pathlib import Path

import pytest

pytest_plugins = ["pytester"]

PROJECT = Path(__file__).parents[2]
TITLED = re.compile(r'^```python title="(\w+)\.py"\n(.*?)^```$', re.MULTILINE | re.DOTALL)


def test_the_examples_run(pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> None:
    files = dict(TITLED.findall((PROJECT / "docs" / "how-to" / "testing.md").read_text()))
    assert len(files) == 6
    pytester.makepyfile(**files)
    monkeypatch.setenv("PYTHONPATH", str(PROJECT / "src"))
    found = pytester.runpytest_subprocess("-p", "no:umbel", "-p", "umbel.testing.plugin", "-p", "no:cacheprovider")
    found.assert_outcomes(passed=14)
