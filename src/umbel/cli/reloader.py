"""``umbel worker --reload``: a process that starts the worker anew when its code has changed.

Each generation of the worker is a process of its own, a worker like any other. When files have changed the next one is
started; only when that is ready the one before is told to stop warmly, so it ends what it runs, on the code with which
it began, and gives everything else back to the broker. If the new code cannot be run, the old goes on.

This process runs no tasks and has no connection to the broker. Signals that it gets are for the worker.
"""

from __future__ import annotations

import asyncio
import importlib.util
import logging
import os
import signal
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from umbel.cli.generation import VARIABLE, Generation, Report
from umbel.errors import ConfigurationError, MissingExtra

if TYPE_CHECKING:
    from watchfiles import Change

logger = logging.getLogger("umbel.reload")

_STOP = (signal.SIGTERM, signal.SIGINT, signal.SIGQUIT)
_SILENCE = 200
"""Milliseconds without further changes after which the code is reloaded."""

_LONGEST_REPORT = 1 << 24

_LONGEST_BURST = 2000
"""Milliseconds of changes without such a silence after which it is reloaded all the same."""


class Reloader:
    """Keeps a worker running, of the newest code that can be run.

    ``command``: what starts it, in ``directory``. ``files``: of which its code is known to consist so far; watched are
    the directories in which these, and those that generations tell of, are. ``roots``: directories to be watched with
    all below them instead.
    """

    def __init__(self, command: Sequence[str], directory: str, files: Iterable[str], roots: Sequence[str] = ()) -> None:
        """Raises MissingExtra without watchfiles, ConfigurationError for a root that is no directory."""
        if importlib.util.find_spec("watchfiles") is None:
            raise MissingExtra("--reload (watchfiles is not installed)", "reload")
        for root in roots:
            if not Path(root).is_dir():
                raise ConfigurationError(f"--reload-dir: {root} is not a directory")
        self.command = list(command)
        self.directory = directory
        self.roots = [os.path.realpath(root) for root in roots]
        self._files = list(files)
        self._watched: set[str] = set()
        self._watchers: list[asyncio.Task[None]] = []
        self._over = asyncio.Event()
        self._count = 0
        self._current: _Child | None = None
        """The newest that was ready."""
        self._coming: _Child | None = None
        """Not ready yet."""
        self._due = False
        """Code has changed while the first one was being started."""
        self._children: dict[_Child, asyncio.Task[None]] = {}
        self._stopping = False
        self._status = 0

    def run(self) -> int:
        """Until the worker ends, by itself or by a signal; its exit code."""
        return asyncio.run(self._main())

    async def _main(self) -> int:
        loop = asyncio.get_running_loop()
        for number in (*_STOP, signal.SIGUSR1):
            loop.add_signal_handler(number, self._on_signal, number)
        self._watch(self.roots or _directories_of(self._files))
        self._start_next()
        while self._children:
            await asyncio.wait(self._children.values(), return_when=asyncio.FIRST_COMPLETED)
            for child in [child for child, life in self._children.items() if life.done()]:
                self._children.pop(child).result()
        self._over.set()
        await asyncio.gather(*self._watchers)
        return self._status

    # -- signals --

    def _on_signal(self, number: signal.Signals) -> None:
        """A first request to stop is not for those that are stopping already: for them it would be the second."""
        newest = {self._current, self._coming}
        everybody = self._stopping or number not in (signal.SIGTERM, signal.SIGINT)
        for child in self._children:
            if everybody or child in newest:
                child.send_signal(number)
        self._stopping = self._stopping or number in _STOP

    # -- generations --

    def _on_change(self) -> None:
        if self._current is None:
            self._due = True
        else:
            self._start_next()

    def _start_next(self) -> None:
        self._due = False
        if self._coming is not None:
            self._coming.abandon()
        self._count += 1
        self._coming = child = _Child(self._count, self.command, self.directory)
        self._children[child] = asyncio.get_running_loop().create_task(self._attend(child))

    async def _attend(self, child: _Child) -> None:
        report = await child.start()
        if not self.roots:
            self._watch(_directories_of(report.files))
        if report.ready and child is self._coming and not self._stopping:
            before, self._current, self._coming = self._current, child, None
            if before is not None:
                before.leave()
                logger.info("reloaded", extra={"data": {"generation": child.number}})
            if self._due:
                self._start_next()
        status = await child.wait()
        if child is self._current:
            self._end(status)
        elif child is self._coming:
            self._coming = None
            if self._current is None:
                if report.error:
                    logger.critical("the worker cannot be started: %s", report.error)
                if self._due and not self._stopping:
                    self._start_next()
                else:
                    self._end(status)
            elif not self._stopping:
                reason = report.error or f"its process ended with status {status}, see above"
                logger.error("the new code cannot be run, the old goes on: %s", reason)

    def _end(self, status: int) -> None:
        """The newest generation has ended; so shall all."""
        self._status = status
        if self._coming is not None and not self._stopping:
            self._coming.abandon()
        self._stopping = True

    # -- files --

    def _watch(self, directories: Iterable[str]) -> None:
        """From now on, those as well that are not watched yet."""
        more = sorted(each for each in set(directories) - self._watched if os.path.isdir(each))
        if more and not self._over.is_set():
            self._watched.update(more)
            self._watchers.append(asyncio.get_running_loop().create_task(self._attend_to(more)))

    async def _attend_to(self, directories: Sequence[str]) -> None:
        from watchfiles import awatch  # pyright: ignore[reportUnknownVariableType] - of trio's events, not used here

        logging.getLogger("watchfiles").setLevel(logging.WARNING)  # it tells of every write, those to a log included
        logger.debug("watching %s", ", ".join(directories))
        changes = awatch(
            *directories,
            watch_filter=_is_code,
            debounce=_LONGEST_BURST,
            step=_SILENCE,
            stop_event=self._over,
            recursive=bool(self.roots),
        )
        try:
            async for several in changes:
                if not self._stopping:
                    names = sorted({os.path.relpath(path) for _, path in several})
                    logger.info("code has changed", extra={"data": {"files": names}})
                    self._on_change()
        except OSError:
            logger.exception("changes in these directories are not seen: %s", ", ".join(directories))


class _Child:
    """The process of one generation."""

    def __init__(self, number: int, command: Sequence[str], directory: str) -> None:
        self.number = number
        self._command = command
        self._directory = directory
        self._process: asyncio.subprocess.Process | None = None
        self._left = False

    async def start(self) -> Report:
        """Run until it is ready, or never will be; what it reports, if it does."""
        read, write = os.pipe()
        with open(read, "rb") as pipe:
            try:
                self._process = await asyncio.create_subprocess_exec(
                    *self._command,
                    cwd=self._directory,
                    env={**os.environ, VARIABLE: Generation.describe(self.number, write)},
                    pass_fds=(write,),
                    process_group=0,
                )
            finally:
                os.close(write)
            if self._left:
                self.abandon()
            reader = asyncio.StreamReader(limit=_LONGEST_REPORT)
            transport, _ = await asyncio.get_running_loop().connect_read_pipe(
                lambda: asyncio.StreamReaderProtocol(reader), pipe
            )
            try:
                line = await reader.readline()
            finally:
                transport.close()
        return msgspec.json.decode(line, type=Report) if line else Report()

    async def wait(self) -> int:
        """Its exit code, as a shell has it."""
        assert self._process is not None
        status = await self._process.wait()
        return status if status >= 0 else 128 - status

    def send_signal(self, number: signal.Signals) -> None:
        if self._process is None:
            self._left = self._left or number in _STOP
        elif self._process.returncode is None:
            self._process.send_signal(number)

    def leave(self) -> None:
        """Stop warmly; to one that was ready. ``SIGTERM`` might mean something else to it (``REMAP_SIGTERM``)."""
        self.send_signal(signal.SIGINT)

    def abandon(self) -> None:
        """Stop; to one that was not ready."""
        self.send_signal(signal.SIGTERM)


def _directories_of(files: Iterable[str]) -> set[str]:
    return {os.path.dirname(file) for file in files}


def _is_code(change: Change, path: str) -> bool:
    return path.endswith(".py") and not os.path.basename(path).startswith(".")
