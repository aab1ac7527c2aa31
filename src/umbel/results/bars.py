"""A bar on the terminal while somebody waits for results; one line at the end where there is no terminal."""

from __future__ import annotations

import contextlib
import sys
import time
from collections.abc import Generator
from typing import TYPE_CHECKING, Any, Protocol, cast

from umbel.backends.base import Meta

if TYPE_CHECKING:
    from rich.console import Console
    from rich.progress import Progress, TaskID

_QUIET = ("current", "total", "percent")


class Bar(Protocol):
    """``done`` of ``total`` (None: nobody knows of how much), and a ``note`` beside it."""

    def show(self, done: float, total: float | None, note: str) -> None: ...


class _NoBar:
    def show(self, done: float, total: float | None, note: str) -> None:
        """Nobody looks."""


class _Line:
    """Keeps what was shown last, for the line at the end."""

    def __init__(self, title: str) -> None:
        self._title = title
        self._began = time.monotonic()
        self._shown = "nothing known"

    def show(self, done: float, total: float | None, note: str) -> None:
        self._shown = ", ".join(filter(None, [_count(done, total), note]))

    def write(self) -> None:
        sys.stderr.write(f"{self._title}: {self._shown} after {time.monotonic() - self._began:.1f} s\n")


class _Drawn:
    def __init__(self, progress: Progress, task: TaskID) -> None:
        self._progress = progress
        self._task = task

    def show(self, done: float, total: float | None, note: str) -> None:
        self._progress.update(self._task, completed=done, total=total, count=_count(done, total), note=note)


@contextlib.contextmanager
def open_bar(wanted: bool, title: str) -> Generator[Bar]:
    """A bar on standard error if it is ``wanted``, as long as the context lasts."""
    if not wanted:
        yield _NoBar()
        return
    from rich.console import Console

    console = Console(stderr=True)
    if console.is_terminal or console.is_jupyter:
        with _drawing(console) as progress:
            yield _Drawn(progress, progress.add_task(title, total=None, count="", note=""))
        return
    line = _Line(title)
    try:
        yield line
    finally:
        line.write()


def _drawing(console: Console) -> Progress:
    from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeElapsedColumn

    return Progress(
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        TaskProgressColumn(),
        TextColumn("{task.fields[count]}", markup=False),
        TimeElapsedColumn(),
        TextColumn("{task.fields[note]}", markup=False),
        console=console,
    )


def show_task(bar: Bar, meta: Meta) -> None:
    """Show how far one task is, from what it stored: ``self.progress(...)``, or the same keys in Celery's manner."""
    if meta.ready:
        bar.show(1, 1, meta.status)
        return
    tells = isinstance(meta.result, dict)
    info = cast("dict[str, Any]", meta.result) if tells else {}
    if _is_number(info.get("current")):
        total = info.get("total")
        notes = [f"{name}={value}" for name, value in info.items() if name not in _QUIET]
        bar.show(info["current"], total if _is_number(total) else None, ", ".join(notes))
    else:
        bar.show(0, None, meta.status)


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def _count(done: float, total: float | None) -> str:
    if (done, total) == (1, 1):
        return ""
    return f"{done:,}/{total:,}" if total is not None else f"{done:,}" if done else ""
