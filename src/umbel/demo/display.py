"""Live progress of the demo: bars on a terminal, plain lines elsewhere."""

from __future__ import annotations

import sys
import time
from typing import IO, Any, Protocol, Self


class Display(Protocol):
    """What the demo tells while it runs."""

    def begin(self, title: str, total: int) -> None:
        """The next stage, of ``total`` tasks."""

    def advance(self, done: float) -> None:
        """So many tasks of the stage are done; fractions are parts of a task."""

    def end(self, outcome: str) -> None:
        """The stage is over, with this in one line."""

    def say(self, text: str) -> None:
        """Something else that happened."""

    def __enter__(self) -> Self: ...

    def __exit__(self, *exc: object) -> None: ...


class PlainDisplay:
    """A line when a stage begins, while it lasts (at most one a second), and when it ends."""

    def __init__(self, stream: IO[str] | None = None) -> None:
        self._stream = stream or sys.stdout
        self._title, self._total = "", 0
        self._began = self._told = 0.0

    def begin(self, title: str, total: int) -> None:
        self._title, self._total = title, total
        self._began = self._told = time.monotonic()
        self.say(f"{title}: {total:,} {'task' if total == 1 else 'tasks'}")

    def advance(self, done: float) -> None:
        moment = time.monotonic()
        if moment - self._told >= 1.0 and done < self._total:
            self._told = moment
            self.say(f"{self._title}: {int(done):,} of {self._total:,}")

    def end(self, outcome: str) -> None:
        self.say(f"{self._title}: done in {time.monotonic() - self._began:.2f} s; {outcome}")

    def say(self, text: str) -> None:
        print(text, file=self._stream, flush=True)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self._stream.flush()


class TerminalDisplay:
    """A bar while a stage lasts, and a line with what came out when it ends."""

    def __init__(self, coloured: bool) -> None:
        from rich.console import Console
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

        self._progress = Progress(
            TextColumn("  {task.description}"),
            BarColumn(20),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            console=Console(highlight=False, no_color=not coloured),
            transient=True,
        )
        self._title, self._total, self._began = "", 0, 0.0
        self._bar: Any = None

    def begin(self, title: str, total: int) -> None:
        self._title, self._total, self._began = title, total, time.monotonic()
        self._bar = self._progress.add_task(title, total=total)

    def advance(self, done: float) -> None:
        self._progress.update(self._bar, completed=int(done * 10) / 10)

    def end(self, outcome: str) -> None:
        from rich.text import Text

        self._progress.remove_task(self._bar)
        seconds = time.monotonic() - self._began
        line = Text.assemble(("✓ ", "green"), (self._title, "bold"), f", {seconds:.2f} s\n  ", (outcome, "cyan"))
        self._progress.console.print(line)

    def say(self, text: str) -> None:
        from rich.text import Text

        self._progress.console.print(Text(text))

    def __enter__(self) -> Self:
        self._progress.start()
        return self

    def __exit__(self, *exc: object) -> None:
        self._progress.stop()
