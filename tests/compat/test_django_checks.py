"""Django's system checks when a worker starts, and the options that say where a Celery project's settings are."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from compat.conftest import Run

SETTINGS = """\
SECRET_KEY = "for tests"
SILENCED_SYSTEM_CHECKS = ["own.silent"]
"""
CHECKED = """\
import logging, os
os.environ["DJANGO_SETTINGS_MODULE"] = "settings_of_a_test"
import umbel.compat.auto
from django.core.checks import Error, Warning, register
from celery import Celery
from umbel.signals import worker_init

@register()
def own(app_configs, **kwargs):
    odd = Warning("is odd", hint="mend it", id="own.odd")
    return [odd, Error("is wrong", id="own.wrong"), Error("x", id="own.silent")]

logging.basicConfig(format="%(levelname)s %(message)s", level="INFO", force=True)
app = Celery("proj", broker="memory://")
app.import_task_modules()
worker_init.send(sender=None)
"""


@pytest.mark.parametrize("skipped", [None, "SKIP_CHECKS", "CELERY_SKIP_CHECKS"])
def test_what_the_checks_find_is_logged(
    python: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, skipped: str | None
) -> None:
    pytest.importorskip("django")
    (tmp_path / "settings_of_a_test.py").write_text(SETTINGS)
    if skipped:
        monkeypatch.setenv(skipped, "1")
    said = python(f"import sys; sys.stderr = sys.stdout\n{CHECKED}", path=tmp_path)
    found = [line for line in said.splitlines() if "Django's checks" in line]
    if skipped:
        assert found == []
    else:
        assert len(found) == 2 and "own.odd" in found[0] and found[0].startswith("WARNING")
        assert "(own.wrong) is wrong" in found[1] and found[1].startswith("ERROR")
        assert "mend it" in said and "own.silent" not in said


def test_settings_of_a_project_by_options(python: Run, tmp_path: Path) -> None:
    (tmp_path / "given.py").write_text("task_default_queue = 'given'\nbroker_url = 'memory://'\n")
    (tmp_path / "celeryconfig.py").write_text("task_default_queue = 'usual'\nbroker_url = 'memory://'\n")
    (tmp_path / "proj.py").write_text("from celery import Celery\napp = Celery('proj')\n")

    def queue(*options: str) -> str:
        arguments = ("-m", "umbel", "--as-celery", "-A", "proj", *options, "config", "--json")
        return json.loads(python("", path=tmp_path, arguments=arguments))["task_default_queue"]["value"]

    assert queue() == "celery"
    assert queue("--loader", "default") == "usual"
    assert queue("--loader", "default", "--config", "given") == queue("--config", "given") == "given"
