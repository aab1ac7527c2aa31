"""Stopping processes with SIGSTOP, as a laptop's sleep or a paused container does."""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path
from urllib.parse import urlsplit

import psutil

from workers import wait_for


def freeze(processes: Sequence[psutil.Process], broker: str) -> None:
    """Stop them; on SQLite not while one has the file locked: that would stop everybody, and nobody can help it."""
    _suspend(processes)
    while broker.startswith("sqlite") and _is_locked(file := Path(urlsplit(broker).path)):
        for process in processes:
            process.resume()
        wait_for(lambda file=file: not _is_locked(file), 5)
        _suspend(processes)


def _suspend(processes: Sequence[psutil.Process]) -> None:
    for process in processes:
        process.suspend()


def _is_locked(file: Path) -> bool:
    with closing(sqlite3.connect(file, timeout=0.5, isolation_level=None)) as connection:
        try:
            connection.execute("BEGIN IMMEDIATE")
        except sqlite3.OperationalError:
            return True
        connection.execute("ROLLBACK")
        return False
