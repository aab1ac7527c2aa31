"""Tasks that do what no task should do, and values and errors that no worker likes."""

from __future__ import annotations

import asyncio
import ctypes
import decimal
import multiprocessing
import os
import resource
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

from umbel import Umbel

app = Umbel("odd", broker=os.environ.get("LEDGER_BROKER"), backend=os.environ.get("LEDGER_BACKEND"))


@app.task
def add(x: int, y: int) -> int:
    return x + y


@app.task
def length(text: str) -> int:
    return len(text)


@app.task
def big(seconds: float, size: int) -> str:
    time.sleep(seconds)
    return "x" * size


@app.task
def where() -> tuple[int, str]:
    """The executor's pid and working directory."""
    return os.getpid(), os.getcwd()


@app.task
def send_another(x: int) -> str:
    """Sends a task from inside the executor; its id."""
    return add.delay(x, 1).id


# -- ways to end a process -------------------------------------------------------------------------


def _close_descriptors() -> None:
    os.closerange(3, 4096)


def _use_descriptors_of_others() -> None:
    os.closerange(3, 4096)
    for _ in range(40):
        os.open(os.devnull, os.O_RDWR)


def _fork_and_keep_the_parent_dying() -> None:
    if os.fork():
        os._exit(3)


DEATHS = {
    "os._exit": lambda: os._exit(3),
    "os._exit(0)": lambda: os._exit(0),
    "segfault": lambda: ctypes.string_at(0),
    "abort": os.abort,
    "SIGKILL": lambda: os.kill(os.getpid(), signal.SIGKILL),
    "SIGTERM": lambda: os.kill(os.getpid(), signal.SIGTERM),
    "out of CPU time": lambda: _overrun(),
    "all descriptors closed": _close_descriptors,
    "all descriptors reused": _use_descriptors_of_others,
    "exit in the parent of a fork": _fork_and_keep_the_parent_dying,
}


def _overrun() -> None:
    resource.setrlimit(resource.RLIMIT_CPU, (1, 1))
    while True:
        pass


@app.task
def die(how: str) -> str:
    leave_no_core()
    DEATHS[how]()
    return how


def leave_no_core() -> None:
    """No core files of processes that crash on purpose."""
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


# -- oddities after which the executor goes on -----------------------------------------------------


def _fork(child: Any) -> None:
    pid = os.fork()
    if pid == 0:
        child()
    else:
        os.waitpid(pid, 0)


def _fork_and_return() -> None:
    os.fork()


def _fork_and_raise() -> None:
    if os.fork() == 0:
        raise ValueError("raised in the child of a fork")


def _write_ten_megabytes() -> None:
    for _ in range(500):
        print("x" * 10_000)
        sys.stderr.write("y" * 10_000 + "\n")
    sys.stdout.flush()


def _close_standard_streams() -> None:
    sys.stdout.flush()
    for number in (0, 1, 2):
        os.close(number)


def _replace_handlers() -> None:
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGQUIT, signal.SIGHUP, signal.SIGUSR1, signal.SIGCHLD):
        signal.signal(number, signal.SIG_IGN)


def _block_signals() -> None:
    signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())


def _leave_threads() -> None:
    for _ in range(5):
        threading.Thread(target=time.sleep, args=(3600,), daemon=False).start()


def _leave_children() -> None:
    subprocess.Popen(["sleep", "60"])
    multiprocessing.get_context("fork").Process(target=time.sleep, args=(60,)).start()


def _lose_the_directory() -> None:
    gone = Path(os.environ["LEDGER_FILE"] + f".{os.getpid()}")
    gone.mkdir()
    os.chdir(gone)
    gone.rmdir()


def _change_everything() -> None:
    os.chdir("/")
    os.umask(0o777)
    os.environ.clear()
    sys.setrecursionlimit(200)
    sys.argv[:] = []


def _limit_files() -> None:
    resource.setrlimit(resource.RLIMIT_NOFILE, (0, 0))


def _keep_an_alarm() -> None:
    signal.signal(signal.SIGALRM, lambda *_: None)
    signal.setitimer(signal.ITIMER_REAL, 0.01, 0.01)


def _close_the_loop() -> None:
    asyncio.set_event_loop(None)
    threading.settrace(lambda *_: None)


MISDEEDS = {
    "fork": lambda: _fork(lambda: os._exit(0)),
    "fork whose child calls sys.exit": lambda: _fork(lambda: sys.exit(4)),
    "fork whose child returns": _fork_and_return,
    "fork whose child raises": _fork_and_raise,
    "10 MB of output": _write_ten_megabytes,
    "standard streams closed": _close_standard_streams,
    "signal handlers replaced": _replace_handlers,
    "signals blocked": _block_signals,
    "threads left": _leave_threads,
    "children left": _leave_children,
    "working directory gone": _lose_the_directory,
    "surroundings changed": _change_everything,
    "no files allowed": _limit_files,
    "an alarm that goes on": _keep_an_alarm,
    "event loop unset": _close_the_loop,
}


@app.task
def misbehave(how: str) -> str:
    MISDEEDS[how]()
    return how


# -- results ---------------------------------------------------------------------------------------


def _deep() -> list[Any]:
    deep: list[Any] = []
    for _ in range(100_000):
        deep = [deep]
    return deep


def _round() -> list[Any]:
    around: list[Any] = []
    around.append(around)
    return around


class ReprRaises:
    def __repr__(self) -> str:
        raise RuntimeError("no repr")


RESULTS = {
    "object": object,
    "function": lambda: _deep,
    "generator": lambda: (number for number in range(3)),
    "deep": _deep,
    "contains itself": _round,
    "repr raises": ReprRaises,
    "NaN": lambda: float("nan"),
    "infinity": lambda: float("inf"),
    "bytes": lambda: b"\x00\xff",
    "Decimal": lambda: decimal.Decimal("1.10"),
    "set": lambda: {1},
    "complex": lambda: 1j,
    "big integer": lambda: 1 << 200,
    "surrogate": lambda: "\udc80",
    "numbers as keys": lambda: {1: "one", None: 2},
    "tuples as keys": lambda: {(1, 2): 3},
    "exception": lambda: ValueError("returned, not raised"),
}


@app.task
def give(what: str) -> Any:
    return RESULTS[what]()


# -- errors ----------------------------------------------------------------------------------------


class BadRepr(Exception):
    def __repr__(self) -> str:
        raise RuntimeError("no repr")

    __str__ = __repr__


class NeedsTwo(Exception):
    def __init__(self, first: str, second: str) -> None:
        super().__init__(f"{first} and {second}")


class Unreducible(Exception):
    def __reduce__(self) -> Any:
        raise RuntimeError("no reduce")


class BadArguments(Exception):
    @property
    def args(self) -> Any:  # type: ignore[override]
        raise RuntimeError("no args")


class EndOfAll(BaseException):
    pass


def _local_class() -> BaseException:
    class Local(Exception):
        pass

    return Local("known nowhere else")


def _caused_by_itself() -> BaseException:
    error = ValueError("round")
    other = ValueError("about")
    error.__cause__, other.__cause__ = other, error
    return error


ERRORS = {
    "repr raises": BadRepr,
    "two arguments": lambda: NeedsTwo("a", "b"),
    "reduce raises": Unreducible,
    "args raise": BadArguments,
    "unserializable arguments": lambda: ValueError(object(), threading.Lock()),
    "arguments whose repr raises": lambda: ValueError(ReprRaises()),
    "surrogates": lambda: ValueError("\ud800 and \udc80"),
    "local class": _local_class,
    "huge": lambda: ValueError("z" * 5_000_000),
    "group": lambda: ExceptionGroup("several", [ValueError(1), KeyError("k")]),
    "caused by itself": _caused_by_itself,
    "KeyboardInterrupt": KeyboardInterrupt,
    "GeneratorExit": GeneratorExit,
    "StopIteration": StopIteration,
    "CancelledError": asyncio.CancelledError,
    "MemoryError": MemoryError,
    "SystemExit": lambda: SystemExit(3),
    "SystemExit with text": lambda: SystemExit("bye"),
    "BaseException": lambda: EndOfAll("all"),
    "deep arguments": lambda: ValueError(_deep()),
}


@app.task
def throw(what: str) -> None:
    raise ERRORS[what]()


@app.task
def recurse(depth: int = 0) -> int:
    return recurse.run(depth + 1)


@app.task
def allocate() -> int:
    return len(bytearray(1 << 60))


@app.task
async def throw_later(what: str) -> None:
    await asyncio.sleep(0)
    raise ERRORS[what]()
