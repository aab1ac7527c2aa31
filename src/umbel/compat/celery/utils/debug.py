"""``celery.utils.debug``: memory in use, blocked code, and the stacks of all threads."""

from __future__ import annotations

import signal
import sys
import threading
import traceback
from collections.abc import Generator, Iterator, Sequence
from contextlib import contextmanager
from io import StringIO
from types import FrameType
from typing import Any, TextIO, TypeVar

import psutil

from umbel.errors import UmbelError

T = TypeVar("T")

__all__ = ["blockdetection", "cry", "humanbytes", "mem_rss", "memdump", "ps", "sample", "sample_mem"]

UNITS = ((2**40, "TB"), (2**30, "GB"), (2**20, "MB"), (2**10, "KB"))
_process: list[psutil.Process] = []
_samples: list[str] = []


class Blocked(UmbelError):
    """Code ran for longer than ``blockdetection`` allows, or in a thread where that cannot be seen."""


@contextmanager
def blockdetection(timeout: float | None) -> Generator[None]:
    """Raise in the code inside when it takes longer than ``timeout`` seconds; no limit for None or 0.

    Works in the main thread, by SIGALRM.
    """
    if not timeout:
        yield
        return

    def ring(signum: int, frame: FrameType | None) -> None:
        raise Blocked(f"blocked for longer than {timeout} s")

    before = signal.signal(signal.SIGALRM, ring)
    signal.setitimer(signal.ITIMER_REAL, timeout)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before or signal.SIG_DFL)


def sample_mem() -> str:
    """Note how much memory the process uses now, for ``memdump``; the same as text."""
    found = mem_rss()
    _samples.append(found)
    return found


def memdump(samples: int = 10, file: TextIO | None = None) -> None:
    """Write about so many of the notes of ``sample_mem``, forget them, and write what is used now."""
    out = file or sys.stdout
    before = list(sample(_samples, samples))
    _samples.clear()
    if before:
        print("- rss (sample):", file=out)
        for memory in before:
            print(f"-    > {memory},", file=out)
    print(f"- rss (end): {mem_rss()}.", file=out)


def sample(x: Sequence[T], n: int, k: int = 0) -> Iterator[T]:
    """About ``n`` items of ``x`` at equal distances, from item ``k`` on."""
    step = max(len(x) // n, 1)
    for _ in range(n):
        if k >= len(x):
            break
        yield x[k]
        k += step


def humanbytes(s: float) -> str:
    """A number of bytes in its largest unit: ``4.7684MB``."""
    for size, unit in UNITS:
        if s >= size:
            return f"{hfloat(s / size)}{unit}"
    return f"{s}b"


def hfloat(f: float, p: int = 5) -> str:
    """``f`` with ``p`` digits."""
    whole = int(f)
    return str(whole) if whole == f else f"{f:.{p}g}"


def mem_rss() -> str:
    """How much memory the process has resident, as text."""
    return humanbytes(ps().memory_info().rss)


def ps() -> psutil.Process:
    """This process."""
    if not _process or not _process[0].is_running() or _process[0].pid != psutil.Process().pid:
        _process[:] = [psutil.Process()]
    return _process[0]


def cry(out: TextIO | None = None, sepchr: str = "=", seplen: int = 49) -> str | None:
    """The stacks of all threads, as text, or written to ``out``."""
    target = StringIO() if out is None else out
    frames = sys._current_frames()  # pyright: ignore[reportPrivateUsage]
    separator = sepchr * seplen
    for thread in threading.enumerate():
        frame: Any = frames.get(thread.ident) if thread.ident is not None else None
        if frame is None:
            continue
        target.write(f"{thread.name}\n{separator}\n")
        traceback.print_stack(frame, file=target)
        target.write(f"{separator}\nLOCAL VARIABLES\n{separator}\n")
        for name, value in frame.f_locals.items():
            target.write(f"{name} = {value!r}\n")
        target.write("\n\n")
    return target.getvalue() if isinstance(target, StringIO) and out is None else None
