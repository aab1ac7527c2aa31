"""`python -m umbel.compat`: every difference in a project that has them, and nothing said of one that has none."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from compat.conftest import PROJECT
from umbel.compat.missing import MODULES
from umbel.compat.scan import Level, scan
from umbel.compat.scan.knowledge import NEVER_SENT

SCANNED = Path(__file__).parents[1] / "data" / "scanned_project"
SOURCE = Path(__file__).parents[2] / "src" / "umbel"

EXPECTED = {
    ("broken.py", 1, Level.UNREADABLE, "broken.py"),
    ("celery.py", 1, Level.MISSING, "celery.app.trace"),
    ("celery.py", 4, Level.DIFFERS, "celery.signals.beat_init"),
    ("celery.py", 6, Level.MISSING, "setting result_backend"),
    ("celery.py", 6, Level.IGNORED, "setting worker_timer"),
    ("celery.py", 8, Level.IGNORED, "setting beat_scheduler"),
    ("celery.py", 9, Level.DIFFERS, "setting task_default_qeue"),
    ("celery.py", 10, Level.IGNORED, "setting worker_pool_putlocks"),
    ("celery.py", 12, Level.MISSING, "app.no_such_part"),
    ("celery.py", 12, Level.MISSING, "celery.app.trace"),
    ("celery.py", 14, Level.MISSING, "app.control.conjure"),
    ("celery.py", 17, Level.DIFFERS, "celery.bootsteps.ConsumerStep"),
    ("celery.py", 21, Level.DIFFERS, "app.add_periodic_task"),
    ("settings.py", 1, Level.MISSING, "setting CELERY_BROKER_URL"),
    ("settings.py", 2, Level.IGNORED, "setting CELERY_WORKER_STATE_DB"),
    ("settings.py", 3, Level.DIFFERS, "setting CELERY_TASK_SERIALISER"),
    ("tasks.py", 5, Level.DIFFERS, "kombu.Connection"),
    ("tasks.py", 13, Level.DIFFERS, "celery.beat (Scheduler)"),
    ("tasks.py", 19, Level.MISSING, "Task.Strategy"),
    ("tasks.py", 22, Level.MISSING, "task option backend"),
    ("tasks.py", 24, Level.DIFFERS, "kombu.Producer"),
    ("tasks.py", 29, Level.MISSING, "apply_async(tenant=…)"),
}


def command(*arguments: str) -> subprocess.CompletedProcess[str]:
    words = [sys.executable, "-m", "umbel.compat", *arguments]
    return subprocess.run(words, capture_output=True, text=True, timeout=60)


@pytest.fixture
def scanned(tmp_path: Path) -> Path:
    """The project that has them all, with a file that is no Python, and things that are not its own."""
    project = tmp_path / "scanned"
    (project / "proj").mkdir(parents=True)
    for file in SCANNED.rglob("*.py.txt"):
        shutil.copy(file, project / "proj" / file.stem)
    for other in (project / ".hidden", project / "env"):
        other.mkdir()
        (other / "other.py").write_text("import celery.beat\n")
    (project / "env" / "pyvenv.cfg").touch()
    return project


def test_every_difference_is_found_and_nothing_else(scanned: Path) -> None:
    report = scan(scanned)
    found = {(Path(each.file).name, each.line, each.level, each.what) for each in report.findings}
    assert found == EXPECTED
    assert report.files == 4


def test_nothing_is_missing_in_a_project_that_runs() -> None:
    report = scan(PROJECT)
    assert [str(each) for each in report.findings if each.level is not Level.IGNORED] == []
    assert report.files > 8


def test_a_single_file_and_a_package_are_read_as_well(scanned: Path) -> None:
    assert {Path(each.file).name for each in scan(scanned / "proj" / "celery.py").findings} == {"celery.py"}
    inside = {(each.line, each.what) for each in scan(scanned / "proj").findings}
    assert inside == {(line, what) for _, line, _, what in EXPECTED}


def test_nothing_is_run(tmp_path: Path) -> None:
    (tmp_path / "proj.py").write_text(f"open({str(tmp_path / 'ran')!r}, 'w')\nimport celery\n")
    assert scan(tmp_path).findings == []
    assert not (tmp_path / "ran").exists()


def test_as_text(scanned: Path) -> None:
    done = command(str(scanned))
    assert done.returncode == 1
    assert f"celery.py:1: missing: celery.app.trace: {MODULES['celery.app.trace'][:20]}" in done.stdout
    assert "did you mean task_default_queue?" in done.stdout
    assert len(done.stdout.splitlines()) == len(EXPECTED)
    assert done.stderr.startswith("4 files read: ")


def test_as_json(scanned: Path) -> None:
    done = command("--json", str(scanned))
    document = json.loads(done.stdout)
    assert done.returncode == 1 and document["files"] == 4 and len(document["findings"]) == len(EXPECTED)
    assert set(document["findings"][0]) == {"file", "line", "level", "what", "why"}


@pytest.mark.parametrize(
    ("arguments", "status", "said"),
    [
        (("--help",), 0, "python -m umbel.compat ."),
        (("no-such-place",), 2, "does not exist"),
        ((str(PROJECT),), 0, "files read"),
    ],
)
def test_exit_status(arguments: tuple[str, ...], status: int, said: str) -> None:
    done = command(*arguments)
    assert done.returncode == status, done.stderr
    assert said in done.stdout + done.stderr


def test_signals_that_are_said_never_to_be_sent_are_not() -> None:
    text = "\n".join(path.read_text() for path in SOURCE.rglob("*.py"))
    for name in NEVER_SENT:
        assert f"{name}.send(" not in text, name
