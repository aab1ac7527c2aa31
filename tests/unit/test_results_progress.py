"""The bar of ``progress=True``: drawn on a terminal, one line where there is none."""

from __future__ import annotations

import contextlib
import io
import os
import re
import subprocess
import sys
import threading
import uuid
from collections.abc import Iterator
from typing import Any

import pytest

from umbel import ResultSet, TimeoutError, Umbel
from umbel.backends.base import Meta
from workers import wait_for

ESCAPES = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")


@pytest.fixture
def app() -> Iterator[Umbel]:
    with Umbel("bars", broker=f"memory://{uuid.uuid4()}", backend=f"memory://{uuid.uuid4()}") as made:
        yield made


def store(app: Umbel, task_id: str, status: str = "SUCCESS", result: Any = None) -> None:
    app.backend.store([app.backend.encode(Meta(task_id=task_id, status=status, result=result))])


class Terminal:
    """A terminal, for the place of standard error (which pytest takes back before each test begins).

    ``text``: what was written to it, without escape sequences.
    """

    def __init__(self) -> None:
        self._ours, theirs = os.openpty()
        self.error = os.fdopen(theirs, "w")
        self._seen = bytearray()
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        with contextlib.suppress(OSError):
            while chunk := os.read(self._ours, 4096):
                self._seen += chunk

    @property
    def text(self) -> str:
        return ESCAPES.sub("", self._seen.decode(errors="replace"))

    def close(self) -> None:
        self.error.close()
        self._reader.join(5)
        os.close(self._ours)


@pytest.fixture
def terminal(monkeypatch: pytest.MonkeyPatch) -> Iterator[Terminal]:
    made = Terminal()
    for name, value in {"TERM": "xterm", "COLUMNS": "160"}.items():
        monkeypatch.setenv(name, value)
    for name in ("NO_COLOR", "TTY_COMPATIBLE", "TTY_INTERACTIVE", "FORCE_COLOR"):
        monkeypatch.delenv(name, raising=False)
    yield made
    made.close()


def test_a_task_that_tells_its_progress(app: Umbel, terminal: Terminal, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stderr", terminal.error)
    result = app.AsyncResult("t1", task_name="encode")
    store(app, "t1", "PROGRESS", {"current": 3, "total": 12, "percent": 25.0, "step": "pass one"})
    found: list[Any] = []
    waiting = threading.Thread(target=lambda: found.append(result.get(timeout=20, progress=True)))
    waiting.start()
    wait_for(lambda: "25%" in terminal.text and "3/12" in terminal.text, 10, "the bar at a quarter")
    assert "encode" in terminal.text and "step=pass one" in terminal.text
    store(app, "t1", result="done")
    waiting.join()
    assert found == ["done"]
    wait_for(lambda: "100%" in terminal.text and "SUCCESS" in terminal.text, 10, "the whole bar")


def test_a_group_is_counted(app: Umbel, terminal: Terminal, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stderr", terminal.error)
    whole = app.GroupResult("g", [app.AsyncResult(f"t{number}") for number in range(4)])
    store(app, "t0")
    error = {"exc_type": "ValueError", "exc_module": "builtins", "exc_message": ["x"]}
    store(app, "t1", "FAILURE", error)
    found: list[Any] = []
    waiting = threading.Thread(target=lambda: found.append(whole.join(timeout=20, propagate=False, progress=True)))
    waiting.start()
    wait_for(lambda: "2/4" in terminal.text, 10, "the bar at a half")
    assert "50%" in terminal.text and "1 failed" in terminal.text and "4 tasks" in terminal.text
    store(app, "t2")
    store(app, "t3")
    waiting.join()
    assert len(found[0]) == 4
    wait_for(lambda: "4/4" in terminal.text, 10, "the whole bar")


def test_a_task_that_tells_nothing_shows_its_state(
    app: Umbel, terminal: Terminal, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "stderr", terminal.error)
    store(app, "t1", "STARTED", {"pid": 1})
    with pytest.raises(TimeoutError):
        app.AsyncResult("t1", task_name="[odd] name").get(timeout=0.5, progress=True)
    wait_for(lambda: "STARTED" in terminal.text and "[odd] name" in terminal.text, 10, "the state")


@pytest.mark.parametrize(
    ("ended", "line"),
    [(2, r"2 tasks: 2/2 after \d+\.\d s\n"), (1, r"2 tasks: 1/2 after \d+\.\d s\n")],
)
def test_without_a_terminal_there_is_one_line(
    app: Umbel, monkeypatch: pytest.MonkeyPatch, ended: int, line: str
) -> None:
    monkeypatch.setattr(sys, "stderr", text := io.StringIO())
    for number in range(ended):
        store(app, f"t{number}")
    whole = ResultSet([app.AsyncResult("t0"), app.AsyncResult("t1")], app=app)
    with contextlib.suppress(TimeoutError):
        whole.get(timeout=0.2, progress=True)
    assert re.fullmatch(line, text.getvalue())


def test_the_line_of_one_task(app: Umbel, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stderr", text := io.StringIO())
    with pytest.raises(TimeoutError):
        app.AsyncResult("never", task_name="slow").get(timeout=0.05, progress=True)
    store(app, "t1", "PROGRESS", {"current": 5})
    with pytest.raises(TimeoutError):
        app.AsyncResult("t1", task_name="slow").get(timeout=0.05, progress=True)
    store(app, "t1")
    app.AsyncResult("t1", task_name="slow").get(timeout=1, progress=True)
    shown = [line.rpartition(" after ")[0] for line in text.getvalue().splitlines()]
    assert shown == ["slow: nothing known", "slow: 5", "slow: SUCCESS"]


def test_nothing_is_written_or_imported_unless_it_is_wanted() -> None:
    program = (
        "import sys, umbel\n"
        "from umbel.backends.base import Meta\n"
        "app = umbel.Umbel('x', broker='memory://', backend='memory://')\n"
        "app.backend.store([app.backend.encode(Meta(task_id='t', status='SUCCESS', result=5))])\n"
        "assert app.AsyncResult('t').get(timeout=5) == 5\n"
        "assert not [name for name in sys.modules if name == 'rich' or name.startswith('rich.')]\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stderr) == (0, "")
