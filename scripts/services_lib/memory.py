"""A directory in memory for one process: data of servers and of tests, out of the way of a disk that stalls.

It is named for its holder, and the holder's identity is written in it, so that whoever comes next, from any checkout,
can tell and remove what a killed one left behind.
"""

import os
import shutil
import subprocess
from pathlib import Path

from .errors import ServiceError
from .processes import Process, wait_until

MEMORY = Path("/dev/shm")

ROOM = 3 << 30
"""Bytes that must be free: a run of all tests uses up to half a gigabyte, and servers may not fail for want of room."""

_FOR_PROCESSES = 1 << 30
"""Bytes of the available memory that are left to the processes themselves."""

_PATIENCE = 5.0
_PREFIX = "umbel-"
_HOLDER = "holder"


def make(holder: Process, memory: Path = MEMORY) -> Path | None:
    """A new directory in memory for `holder`, after removing those of the dead; None where there is no room for it."""
    sweep(memory)
    if not has_room(memory):
        return None
    # Short, since paths of Unix sockets in it have at most 107 bytes; open to the unprivileged user of PostgreSQL.
    directory = memory / f"{_PREFIX}{holder.pid}"
    directory.mkdir()
    directory.chmod(0o755)
    (directory / _HOLDER).write_text(holder.identity)
    return directory


def release(holder: Process, memory: Path = MEMORY) -> None:
    """Remove what `make` made for that process, if it did."""
    directory = memory / f"{_PREFIX}{holder.pid}"
    if _owner(directory) == holder:
        _remove(directory)


def sweep(memory: Path = MEMORY) -> None:
    """Remove the directories of processes that are gone."""
    for directory in memory.glob(f"{_PREFIX}*"):
        owner = _owner(directory)
        if owner is not None and not owner.alive():
            _remove(directory)


def _owner(directory: Path) -> Process | None:
    """Whose directory it is; None if it is not of the kind that `make` makes."""
    pid = directory.name.removeprefix(_PREFIX)
    try:
        identity = (directory / _HOLDER).read_text()
    except OSError:
        return None
    return Process(int(pid), identity) if pid.isdigit() and directory.stat().st_uid == os.geteuid() else None


def _remove(directory: Path) -> None:
    """Delete it, and unmount what a test that was killed has mounted in it. Raises ServiceError."""
    for line in Path("/proc/self/mounts").read_text().splitlines():
        place = Path(line.split()[1])
        if directory in place.parents:
            subprocess.run(["umount", "--lazy", str(place)], check=True)
    # More than once: a process that is about to end may still create files.
    if not wait_until(lambda: not _is_left(directory), _PATIENCE):
        raise ServiceError(f"{directory} cannot be removed")


def _is_left(directory: Path) -> bool:
    shutil.rmtree(directory, ignore_errors=True)
    return directory.exists()


def has_room(memory: Path = MEMORY) -> bool:
    """Whether `memory` is a file system in memory with room enough."""
    mounts = Path("/proc/self/mounts")
    if not mounts.exists() or not memory.is_dir() or not os.access(memory, os.W_OK | os.X_OK):
        return False
    kinds = {fields[1]: fields[2] for fields in map(str.split, mounts.read_text().splitlines())}
    if kinds.get(str(memory)) != "tmpfs":
        return False
    free = shutil.disk_usage(memory).free
    return min(free, _available() - _FOR_PROCESSES) >= ROOM


def _available() -> int:
    """Bytes of memory that could be had without swapping."""
    for line in Path("/proc/meminfo").read_text().splitlines():
        if line.startswith("MemAvailable:"):
            return int(line.split()[1]) << 10
    return 0
