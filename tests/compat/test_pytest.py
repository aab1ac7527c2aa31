"""Tests of a Celery project, run by `pytest -p umbel.compat.auto`."""

from __future__ import annotations

from pathlib import Path

from compat.conftest import Run

TESTS = """
import celery
import pytest
from celery import Celery, shared_task
from celery.contrib.testing.worker import start_worker
import umbel.compat.celery


@shared_task
def add(x, y):
    return x + y


@pytest.fixture(scope="session")
def celery_config():
    return {"broker_url": "memory://project", "result_backend": "memory://project", "redbeat_redis_url": "redis://"}


def test_with_the_fixtures(celery_app, celery_worker):
    @celery_app.task
    def double(x):
        return 2 * x

    assert double.delay(4).get(timeout=20) == 8
    assert celery is umbel.compat.celery


def test_eager(celery_app):
    celery_app.conf.task_always_eager = True
    assert add.delay(1, 2).get() == 3


def test_by_hand():
    app = Celery("own", broker="memory://own", backend="memory://own", ONCE={})
    app.set_current()

    @app.task
    def triple(x):
        return 3 * x

    with start_worker(app, perform_ping_check=False):
        assert triple.delay(3).get(timeout=20) == 9
"""


def test_fixtures_and_workers_of_celery(python: Run, tmp_path: Path) -> None:
    (tmp_path / "conftest.py").write_text("")
    (tmp_path / "test_project.py").write_text(TESTS)
    plugins = ("-p", "umbel.compat.auto", "-p", "celery.contrib.pytest", "-p", "no:cacheprovider")
    said = python("", arguments=("-m", "pytest", "-q", "--rootdir", str(tmp_path), *plugins, "test_project.py"))
    assert "3 passed" in said
