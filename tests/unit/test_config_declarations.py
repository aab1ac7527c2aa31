"""Declarations against Celery's table of settings, the page of documentation, and type checkers."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from umbel.config import DECLARED, OLD_NAMES, SECTIONS, Settings
from umbel.config.reference import page

ROOT = Path(__file__).parents[2]

CELERY = [
    line.split(" ", 2)
    for line in Path(__file__).with_name("test_config_celery_names.txt").read_text().splitlines()
    if not line.startswith("#")
]


def test_every_setting_of_celery_is_known_under_both_names():
    assert len(CELERY) > 220
    assert [name for name, _, _ in CELERY if name not in DECLARED] == []
    assert {old: name for name, old, _ in CELERY if old != "-"} == OLD_NAMES
    assert [name for name, _, _ in CELERY if DECLARED[name].own] == []


def test_every_setting_that_celery_lacks_is_marked():
    assert {n for n, s in DECLARED.items() if s.own} == set(DECLARED) - {name for name, _, _ in CELERY}


def test_defaults_are_those_of_celery_unless_the_declaration_says_otherwise():
    same_value = {"datetime.timedelta(days=1)": "86400.0", "inf": "inf", "('json',)": "['json']", "()": "[]"}
    differing: list[str] = []
    for name, _, text in CELERY:
        if text == "?":
            continue
        ours = DECLARED[name].default
        theirs = same_value.get(text, text)
        equal = repr(ours) == theirs or (isinstance(ours, float) and ours == float(theirs))
        if equal == (DECLARED[name].celery is not None):
            differing.append(f"{name}: {ours!r} / {text}")
    # an embedded broker instead of none at all: the value is None in both, its meaning is not
    assert differing == ["broker_url: None / None", "result_backend: None / None"]


def test_no_setting_is_declared_twice():
    assert sum(len(section) for section in SECTIONS.values()) == len(DECLARED)
    assert {name for name in DECLARED if hasattr(dict, name)} == set()


@pytest.mark.parametrize("name", sorted(DECLARED))
def test_documentation_line(name: str):
    doc = DECLARED[name].doc
    assert doc[0].isupper() or doc[0] in "`0123456789-"
    assert doc.endswith((".", ")")) and "\n" not in doc and len(doc) > 10


def test_reference_page_is_current():
    written = (ROOT / "docs" / "reference" / "configuration.md").read_text(encoding="utf-8")
    assert written == page(), "run: python -m umbel.config docs/reference/configuration.md"


def test_reference_page_is_written_by_the_command(tmp_path: Path):
    subprocess.run([sys.executable, "-m", "umbel.config", tmp_path / "page.md"], check=True)
    assert (tmp_path / "page.md").read_text(encoding="utf-8") == page()
    printed = subprocess.run([sys.executable, "-m", "umbel.config"], check=True, capture_output=True)
    assert printed.stdout.decode() == page()


def test_page_names_every_setting_and_what_differs():
    text = page()
    assert [name for name in DECLARED if f"### `{name}`\n" not in text] == []
    late = text.split("### `task_acks_late`")[1].split("###")[0]
    assert "**differs from Celery**: False" in late
    assert "No effect in Umbel" in text.split("### `s3_bucket`")[1].split("###")[0]


def test_importing_config_imports_nothing_else_of_umbel_and_nothing_heavy():
    code = (
        "import json, sys; before = set(sys.modules); import umbel.config; umbel.config.Settings(environ={}).load();"
        "print(json.dumps(sorted(set(sys.modules) - before)))"
    )
    run = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    loaded = set(json.loads(run.stdout))
    ours = {name for name in loaded if name.split(".")[0] == "umbel"}
    assert {n for n in ours if not n.startswith("umbel.config")} == {"umbel", "umbel.errors"}
    assert loaded & {"inspect", "dataclasses", "importlib.metadata", "tomllib", "difflib", "json", "msgspec"} == set()


TYPED = """
from umbel.config import Settings
conf = Settings()
a: str = conf.task_serializer
b: float = conf.publish_timeout
c: int | None = conf.worker_concurrency
conf.task_always_eager = True
conf.update(task_always_eager=True)
"""

MISTYPED = """
from umbel.config import Settings
conf = Settings()
a: int = conf.task_serializer
conf.task_always_eager = "yes"
conf.task_serialiser
conf.task_serialiser = "json"
"""


@pytest.mark.skipif(shutil.which("pyright", path=str(Path(sys.executable).parent)) is None, reason="no pyright")
def test_type_checkers_know_every_setting(tmp_path: Path):
    (tmp_path / "typed.py").write_text(TYPED)
    (tmp_path / "mistyped.py").write_text(MISTYPED)
    (tmp_path / "pyrightconfig.json").write_text(json.dumps({"extraPaths": [str(ROOT / "src")]}))
    run = subprocess.run(
        [Path(sys.executable).with_name("pyright"), "--outputjson", "--pythonpath", sys.executable, "-p", tmp_path],
        capture_output=True,
        text=True,
    )
    found = [
        (Path(d["file"]).name, d["range"]["start"]["line"] + 1)
        for d in json.loads(run.stdout)["generalDiagnostics"]
        if d["severity"] == "error"
    ]
    assert sorted(set(found)) == [("mistyped.py", line) for line in (4, 5, 6, 7)]


def test_names_of_settings_do_not_hide_methods():
    methods = {"load", "origin", "reset", "changed", "update", "assign", "get", "keys", "items", "values"}
    assert methods <= set(dir(Settings)) and not methods & set(DECLARED)
