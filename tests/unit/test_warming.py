"""A nursery that warms up runs nothing of the application's own, and leaves nothing behind."""

from __future__ import annotations

import contextlib
import os
import threading
from typing import Any

import pytest

from umbel import Middleware, Task, Umbel
from umbel.current import current_request
from umbel.executors.executor import Executor
from umbel.executors.warming import plan_tasks, warm_up
from umbel.signals import task_prerun


@pytest.fixture
def runs(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """An entry for each executor that has run to its end."""
    ended: list[str] = []
    run = Executor.run

    def count(self: Executor) -> None:
        run(self)
        ended.append("run")

    monkeypatch.setattr(Executor, "run", count)
    return ended


def open_files() -> set[tuple[str, str]]:
    """Descriptors and what they stand for; a socket's number is never used again."""
    found: set[tuple[str, str]] = set()
    for descriptor in os.listdir("/proc/self/fd"):
        with contextlib.suppress(FileNotFoundError):  # the descriptor of this listing
            found.add((descriptor, os.readlink(f"/proc/self/fd/{descriptor}")))
    return found


BACKENDS = [
    None,
    "memory://",
    "redis://127.0.0.1:1/0",
    "postgresql://127.0.0.1:1/none",
    "sqlite:///{directory}/results.db",
]


@pytest.mark.parametrize("backend", BACKENDS)
def test_nothing_is_connected_started_or_left_open(
    runs: list[str], backend: str | None, tmp_path: os.PathLike[str]
) -> None:
    url = backend.format(directory=tmp_path) if backend else None
    app = Umbel("cold", broker="memory://", backend=url, set_as_current=False)
    assert app.backend is not None
    files, threads = open_files(), threading.active_count()
    warm_up(app)
    assert len(runs) == 10
    assert open_files() <= files  # what earlier tests left may be closed meanwhile, and hides nothing new
    assert threading.active_count() == threads
    assert current_request() is None
    assert "umbel.warm_up" not in app.tasks


def test_nothing_of_the_users_is_called(runs: list[str]) -> None:
    called: list[str] = []

    class Base(Task[..., Any]):
        def before_start(self, *args: object) -> None:
            called.append("before_start")

    app = Umbel(
        "cold", broker="memory://", task_cls=Base, set_as_current=False, task_routes=lambda *_: called.append("route")
    )
    warm_up(app)
    assert len(runs) == 10
    assert not called


def test_it_is_left_out_where_receivers_would_be_told(runs: list[str]) -> None:
    told: list[object] = []

    def receive(**arguments: object) -> None:
        told.append(arguments)

    task_prerun.connect(receive)
    try:
        warm_up(Umbel("cold", broker="memory://", set_as_current=False))
    finally:
        task_prerun.disconnect(receive)
    assert not told
    assert not runs


def test_tasks_are_planned_where_no_middleware_is_asked_for_it() -> None:
    app = Umbel("cold", broker="memory://", set_as_current=False)

    @app.task
    def plain() -> None: ...

    app.finalize()
    plan_tasks(app)
    assert "_plan" in app.tasks[plain.name].__dict__
    app.middleware.add(Middleware())
    plan_tasks(app)
    assert "_plan" not in app.tasks[plain.name].__dict__
