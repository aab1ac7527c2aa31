"""Processes that outlive the command that started them, and are still recognised for certain later.

A process id alone is not enough to stop what was started: it may belong to another process after a crash or a
reboot. So each is kept with its identity (boot and start time), and a signal goes only where both agree.
"""

import os
import signal
import subprocess
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from .errors import ServiceError

_PROC = Path("/proc/self/stat").exists()


@dataclass(frozen=True)
class Entry:
    """One row of the process table; `zombie` ones are dead and only wait to be reaped."""

    parent: int
    identity: str
    zombie: bool


@dataclass(frozen=True)
class Process:
    """A process that was seen running once: `pid` together with what tells it from a later owner of that pid."""

    pid: int
    identity: str

    @classmethod
    def of(cls, pid: int) -> "Process | None":
        """The running process with that pid, or None when there is none."""
        row = _row(pid)
        return None if row is None or row.zombie else cls(pid, row.identity)

    def alive(self) -> bool:
        _reap(self.pid)
        row = _row(self.pid)
        return row is not None and not row.zombie and row.identity == self.identity

    def send(self, number: signal.Signals) -> None:
        """Send a signal, unless the process is gone."""
        if self.alive():
            try:
                os.kill(self.pid, number)
            except ProcessLookupError:
                return


def spawn(argv: Sequence[str], *, env: Mapping[str, str], log: Path) -> Process:
    """Start a program in a session of its own, its output appended to `log`, so that it survives this process."""
    append = os.O_WRONLY | os.O_CREAT | os.O_APPEND
    pid = os.posix_spawn(
        argv[0],
        list(argv),
        dict(env),
        file_actions=[
            (os.POSIX_SPAWN_OPEN, 0, os.devnull, os.O_RDONLY, 0),
            (os.POSIX_SPAWN_OPEN, 1, str(log), append, 0o644),
            (os.POSIX_SPAWN_DUP2, 1, 2),
        ],
        setsid=True,
        setsigmask=[],
        setsigdef=[signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT, signal.SIGPIPE],
    )
    return Process.of(pid) or Process(pid, "gone")


def with_descendants(processes: Iterable[Process]) -> list[Process]:
    """The living ones of `processes` and all their living descendants, parents before children."""
    table = _table()
    children: dict[int, list[int]] = {}
    for pid, row in table.items():
        children.setdefault(row.parent, []).append(pid)
    found: dict[int, Process] = {}
    waiting = [process.pid for process in processes if process.alive()]
    while waiting:
        pid = waiting.pop(0)
        row = table.get(pid)
        if row is None or row.zombie or pid in found:
            continue
        found[pid] = Process(pid, row.identity)
        waiting.extend(children.get(pid, ()))
    return list(found.values())


def terminate(leader: Process, number: signal.Signals, patience: float) -> None:
    """Ask `leader` to end, and kill it with its descendants when they still run after `patience` seconds."""
    family = with_descendants([leader])
    leader.send(number)
    if not wait_until(lambda: not any(member.alive() for member in family), patience):
        kill([*family, *with_descendants(family)])


def kill(processes: Iterable[Process], patience: float = 10.0) -> None:
    """SIGKILL all of them and wait until they are gone.

    Raises ServiceError when one is still there after `patience` seconds.
    """
    doomed = with_descendants(processes)
    for process in doomed:
        process.send(signal.SIGKILL)
    if not wait_until(lambda: not any(process.alive() for process in doomed), patience):
        stuck = [process.pid for process in doomed if process.alive()]
        raise ServiceError(f"processes {stuck} do not end on SIGKILL")


def wait_until(condition: Callable[[], bool], patience: float, interval: float = 0.02) -> bool:
    """Whether `condition` came true within `patience` seconds; it is asked every `interval` seconds."""
    deadline = time.monotonic() + patience
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(interval)
    return True


def _reap(pid: int) -> None:
    try:
        os.waitpid(pid, os.WNOHANG)
    except ChildProcessError:
        return


def _row(pid: int) -> Entry | None:
    if not _PROC:
        return _table().get(pid)
    try:
        text = Path(f"/proc/{pid}/stat").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return None
    fields = text[text.rindex(")") + 2 :].split()
    return Entry(int(fields[1]), f"{_boot()}/{fields[19]}", fields[0] in "ZX")


def _table() -> dict[int, Entry]:
    if _PROC:
        rows = {int(entry.name): _row(int(entry.name)) for entry in Path("/proc").iterdir() if entry.name.isdigit()}
        return {pid: row for pid, row in rows.items() if row is not None}
    listing = subprocess.run(
        ["ps", "-A", "-o", "pid=,ppid=,state=,lstart="], capture_output=True, text=True, check=True
    ).stdout
    table: dict[int, Entry] = {}
    for line in listing.splitlines():
        pid, parent, state, started = line.split(None, 3)
        table[int(pid)] = Entry(int(parent), started.strip(), state.startswith("Z"))
    return table


def _boot() -> str:
    return Path("/proc/sys/kernel/random/boot_id").read_text().strip()
