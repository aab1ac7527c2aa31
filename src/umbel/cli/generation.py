"""One generation of a worker that reloads its code: what its process and the reloader that started it say to another.

The process is an ordinary worker. It tells once, through a pipe, that it is ready and which files its code came from,
or why it cannot be; and it stops warmly when the reloader has gone.
"""

from __future__ import annotations

import os
import signal
import sys
import sysconfig
import time
import traceback
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any

import click
import msgspec
from msgspec import Struct

from umbel.cli.user_options import ExtensibleCommand
from umbel.errors import UmbelError
from umbel.executors.nursery import die_with_parent
from umbel.signals import worker_ready

if TYPE_CHECKING:
    from umbel.worker.supervisor import Worker

VARIABLE = "UMBEL_GENERATION"
_KEY = "umbel.generation"
_POLL = 0.02
"""Seconds."""

_PACKAGES = Path(__file__).parents[1]


class Report(Struct):
    """``files``: the project's modules that were imported. ``error``: why the code cannot be run."""

    ready: bool = False
    files: list[str] = []
    error: str = ""


class Generation:
    """This process, in a generation of that ``number``, from 1; a context manager that reports what keeps it from
    being ready."""

    def __init__(self, number: int, fd: int, parent: int) -> None:
        self.number = number
        self._fd: int | None = fd
        os.set_inheritable(fd, False)
        die_with_parent(signal.SIGTERM)
        if os.getppid() != parent:
            sys.exit(1)
        worker_ready.connect(self._on_ready, weak=False)

    @classmethod
    def of_environment(cls) -> Generation | None:
        """What the reloader has said in the environment; None in a worker that it did not start."""
        given = os.environ.pop(VARIABLE, "")
        return cls(*map(int, given.split(","))) if given else None

    @staticmethod
    def describe(number: int, fd: int) -> str:
        """For the environment of a process that is to be one; by the reloader."""
        return f"{number},{fd},{os.getpid()}"

    def __enter__(self) -> Generation:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: Any) -> None:
        if isinstance(error, Exception) and not isinstance(error, click.ClickException) and self._fd is not None:
            self._tell(Report(False, project_files(), _describe(error)))
            sys.exit(1)

    def _on_ready(self, sender: Worker, **kwargs: Any) -> None:
        """Also the nursery must have been able to import the code, where it does so by itself; any thread."""
        while not sender.stopping:
            if sender.pool is not None and any(executor.pid for executor in list(sender.pool.executors.values())):
                self._tell(Report(True, project_files()))
                return
            time.sleep(_POLL)

    def _tell(self, report: Report) -> None:
        if self._fd is not None:
            fd, self._fd = self._fd, None
            with os.fdopen(fd, "wb") as pipe:
                pipe.write(msgspec.json.encode(report) + b"\n")


class GenerationCommand(ExtensibleCommand):
    """A command that may be run by the reloader."""

    def invoke(self, ctx: click.Context) -> Any:
        generation = Generation.of_environment()
        if generation is None:
            return super().invoke(ctx)
        sys.dont_write_bytecode = True  # of files that change twice in a second Python would take the wrong one
        ctx.meta[_KEY] = generation
        with generation:
            return super().invoke(ctx)


def current_generation() -> Generation | None:
    """Which generation the command that runs here is; None where code is not reloaded, and in the reloader."""
    return click.get_current_context().meta.get(_KEY)


def project_files() -> list[str]:
    """Files of the modules that were imported and belong to the project: neither Python's nor installed ones."""
    found: set[str] = set()
    for module in list(sys.modules.values()):
        file = getattr(module, "__dict__", {}).get("__file__")
        if isinstance(file, str) and file.endswith(".py") and _of_project(file):
            found.add(os.path.realpath(file))
    return sorted(found)


def _of_project(file: str) -> bool:
    path = Path(file).absolute()
    if "site-packages" in path.parts or "dist-packages" in path.parts or path.is_relative_to(_PACKAGES):
        return False
    libraries = {sysconfig.get_path("stdlib"), sysconfig.get_path("platstdlib")}
    return not any(path.is_relative_to(library) for library in libraries)


def _describe(error: Exception) -> str:
    """With the trace, from the first line of the project on."""
    if isinstance(error, (UmbelError, OSError)):
        return str(error)
    trace: TracebackType | None = error.__traceback__
    while trace is not None and not _of_project(trace.tb_frame.f_code.co_filename):
        trace = trace.tb_next
    return "".join(traceback.format_exception(type(error), error, trace)).rstrip()
