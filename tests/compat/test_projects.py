"""A Celery project, unchanged: on Umbel with `umbel --as-celery`, and on a real Celery, with the same results."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import pytest

from compat.conftest import PROJECT
from interop.rig import celery_python
from workers import wait_for

AS_CELERY = (sys.executable, "-m", "umbel", "--as-celery")
CLIENT = "import runpy, umbel.compat.auto; runpy.run_module('{}', run_name='__main__')"
DJANGO_PROJECT = PROJECT.parent / "django_project"
TIMEOUT = 60


class Shop:
    """The project in one place: a broker, a result store, a ledger."""

    def __init__(self, url: str, directory: Path) -> None:
        directory.mkdir(exist_ok=True)
        self.directory = directory
        self.ledger = directory / "ledger"
        self.log = directory / "worker.log"
        self.environment = {
            **os.environ,
            "SHOP_BROKER": url,
            "SHOP_RESULTS": url,
            "SHOP_LEDGER": str(self.ledger),
            "PYTHONUNBUFFERED": "1",
            "C_FORCE_ROOT": "1",
        }

    def run(self, *command: str, status: int = 0) -> str:
        done = subprocess.run(
            command, cwd=PROJECT, env=self.environment, capture_output=True, text=True, timeout=TIMEOUT
        )
        assert done.returncode == status, f"{done.stdout}\n{done.stderr}\n{self.output()[-4000:]}"
        return done.stdout

    @contextmanager
    def worker(self, *command: str, mark: str = "signal worker_ready") -> Iterator[subprocess.Popen[bytes]]:
        with self.log.open("ab") as log:
            process = subprocess.Popen(
                command, cwd=PROJECT, env=self.environment, stdout=log, stderr=log, start_new_session=True
            )
        try:
            wait_for(lambda: self._is_ready(process, mark), TIMEOUT, "worker ready")
            yield process
            process.send_signal(signal.SIGTERM)
            process.wait(20)
        finally:
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)
                process.wait(10)

    def _is_ready(self, process: subprocess.Popen[bytes], mark: str) -> bool:
        assert process.poll() is None, self.output()[-4000:]
        return mark in self.lines()

    def lines(self) -> list[str]:
        return self.ledger.read_text().splitlines() if self.ledger.exists() else []

    def output(self) -> str:
        return self.log.read_text(errors="replace") if self.log.exists() else ""


@pytest.fixture
def shop(fresh_url: Callable[[str], str], tmp_path: Path) -> Shop:
    return Shop(fresh_url("redis"), tmp_path)


def test_a_project_gives_the_same_results_on_both(fresh_url: Callable[[str], str], tmp_path: Path) -> None:
    real = celery_python()
    answers: dict[str, Any] = {}
    with ExitStack() as running:
        celery = Shop(fresh_url("redis"), tmp_path / "celery")
        umbel = Shop(fresh_url("redis"), tmp_path / "umbel")
        worker = ("-A", "shop", "worker", "--loglevel", "INFO", "--concurrency", "2")
        running.enter_context(celery.worker(real, "-m", "celery", *worker))
        running.enter_context(umbel.worker(*AS_CELERY, *worker))
        answers["celery"] = json.loads(celery.run(real, "-m", "shop.client"))
        answers["umbel"] = json.loads(umbel.run(sys.executable, "-c", CLIENT.format("shop.client")))
    expected, found = answers["celery"], answers["umbel"]
    assert {name: (found[name], expected[name]) for name in expected if found[name] != expected[name]} == {}
    assert len(answers["umbel"]) == len(answers["celery"]) > 40
    assert not [name for name, value in answers["celery"].items() if "Error:" in str(value)[:30]]
    assert umbel.lines().count("step greeting stop") == celery.lines().count("step greeting stop") == 1


def test_a_pool_that_imports_the_project_once_more(shop: Shop) -> None:
    pytest.importorskip("gevent")
    with shop.worker(*AS_CELERY, "-A", "shop", "worker", "--pool", "gevent", "-c", "1"):
        out = shop.run(*AS_CELERY, "-A", "shop", "call", "shop.orders.tasks.add", "2", "3", "--wait", "--json")
    assert json.loads(out)["result"] == 5


def test_commands_work_on_it(shop: Shop) -> None:
    task_id = shop.run(*AS_CELERY, "-A", "shop", "call", "shop.orders.tasks.add", "2", "3").strip()
    with shop.worker(*AS_CELERY, "-A", "shop.celery:app", "worker", "-c", "1"):
        wait_for(lambda: "SUCCESS" in shop.output() or "shop.orders.tasks.add" in shop.output(), 20, "the task's line")
        assert "5" in shop.run(*AS_CELERY, "-A", "shop", "result", task_id)
    shop.run(*AS_CELERY, "-A", "shop", "call", "shop.orders.tasks.add", "2", "3")
    assert "1 message" in shop.run(*AS_CELERY, "-A", "shop", "purge", "--force")
    shell = (*AS_CELERY, "-A", "shop", "shell", "--python")
    done = subprocess.run(
        shell, input="import celery; print(celery.__name__, type(app).__name__)", cwd=PROJECT, env=shop.environment,
        capture_output=True, text=True, timeout=TIMEOUT,
    )  # fmt: skip
    assert done.stdout.strip() == "umbel.compat.celery Celery", done.stderr


def test_without_the_option_the_import_fails_as_it_should(shop: Shop) -> None:
    done = subprocess.run(
        (sys.executable, "-m", "umbel", "-A", "shop", "call", "x"),
        cwd=PROJECT, env=shop.environment, capture_output=True, text=True, timeout=TIMEOUT,
    )  # fmt: skip
    assert done.returncode == 1 and done.stderr.startswith("umbel: No module named 'celery'")
    assert "--as-celery" in done.stderr


def test_nodes_of_multi_run_as_celery(shop: Shop) -> None:
    command = shop.run(*AS_CELERY, "-A", "shop", "multi", "show", "1")
    assert "umbel --as-celery -A shop worker" in command


def test_a_project_of_django(tmp_path: Path) -> None:
    pytest.importorskip("django")
    environment = {
        **os.environ,
        "BLOG_DATABASE": str(tmp_path / "blog.db"),
        "BLOG_BROKER": f"sqlite:///{tmp_path / 'broker.db'}",
    }
    log = tmp_path / "worker.log"
    with log.open("ab") as output:
        worker = subprocess.Popen(
            (*AS_CELERY, "-A", "blogsite", "worker", "-c", "2"),
            cwd=DJANGO_PROJECT, env=environment, stdout=output, stderr=output, start_new_session=True,
        )  # fmt: skip
    try:
        client = (sys.executable, "-c", CLIENT.format("blog.client"))
        done = subprocess.run(
            client, cwd=DJANGO_PROJECT, env=environment, capture_output=True, text=True, timeout=TIMEOUT
        )
        assert done.returncode == 0, done.stderr + log.read_text()
        assert json.loads(done.stdout) == {
            "counted": 1,
            "once": {"settings": {"timeout": 5}},
            "titles": ["committed", "committed too", "first"],
            "last": 4,
        }
    finally:
        os.killpg(worker.pid, signal.SIGKILL)
        worker.wait(10)
