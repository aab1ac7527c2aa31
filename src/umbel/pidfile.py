"""Files that say which process a node is: at most one live worker has each.

The owner holds a lock on its file (``lockf(3)``), which the kernel releases when it dies and which its children do not
inherit, so that a file left behind is told from a live one for certain, whatever process has that number now. A file
without a lock, of a program that does not lock, counts as live while its process exists and is older than the file.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
from pathlib import Path

import psutil

from umbel.errors import ConfigurationError

_CLOCK_SLACK = 1.0


class NodeRunning(ConfigurationError):
    """Another live process has the pid file."""


class Pidfile:
    """One file. ``acquire`` makes it this process's; ``release`` removes it again."""

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        self._fd: int | None = None

    def acquire(self) -> None:
        """Write this process's number, replacing a file that a dead process has left.

        The file is replaced as a whole: nobody reads half a number. Raises NodeRunning, or OSError when the file cannot
        be written.
        """
        held = self._lock_existing()
        try:
            pid = _read(held)
            if pid and pid != os.getpid() and _is_owner(pid, os.fstat(held).st_mtime):
                raise NodeRunning(self._already(pid))
            self._fd = self._replace()
        finally:
            os.close(held)

    def _lock_existing(self) -> int:
        """A descriptor of the file at the path, made where there was none, with its lock."""
        while True:
            fd = os.open(self.path, os.O_RDWR | os.O_CREAT, 0o644)
            try:
                fcntl.lockf(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
                if _same_file(fd, self.path):
                    return fd
            except (BlockingIOError, PermissionError):
                pid = _read(fd)
                os.close(fd)
                raise NodeRunning(self._already(pid)) from None
            os.close(fd)

    def _replace(self) -> int:
        new = self.path.with_name(f".{self.path.name}.{os.getpid()}")
        fd = os.open(new, os.O_RDWR | os.O_CREAT | os.O_TRUNC, 0o644)
        try:
            fcntl.lockf(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            os.write(fd, f"{os.getpid()}\n".encode())
            os.replace(new, self.path)
        except OSError:
            os.close(fd)
            new.unlink(missing_ok=True)
            raise
        return fd

    def _already(self, pid: int) -> str:
        return f"the node runs already, as process {pid or '?'} (pid file {self.path})"

    def release(self) -> None:
        """Remove the file, unless it is another process's by now."""
        if self._fd is None:
            return
        fd, self._fd = self._fd, None
        with contextlib.suppress(FileNotFoundError):
            if _same_file(fd, self.path):
                self.path.unlink()
        os.close(fd)


def holder(path: str | Path) -> int | None:
    """The live process that has the pid file ``path``, None when there is none. Raises OSError, ValueError."""
    try:
        fd = os.open(path, os.O_RDWR)
    except FileNotFoundError:
        return None
    try:
        pid = _read(fd)
        try:
            fcntl.lockf(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except (BlockingIOError, PermissionError):
            return pid or None
        return pid if pid and _is_owner(pid, os.fstat(fd).st_mtime) else None
    finally:
        os.close(fd)


def _same_file(fd: int, path: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(fd), path.stat())
    except FileNotFoundError:
        return False


def _read(fd: int) -> int:
    """The number in the file, 0 when there is none."""
    text = os.pread(fd, 32, 0).decode("ascii", "replace").strip()
    return int(text) if text.isascii() and text.isdecimal() else 0


def _is_owner(pid: int, written_at: float) -> bool:
    """Whether the process that lives under this number can have written the file."""
    try:
        process = psutil.Process(pid)
        return process.status() != psutil.STATUS_ZOMBIE and process.create_time() <= written_at + _CLOCK_SLACK
    except psutil.NoSuchProcess:
        return False
