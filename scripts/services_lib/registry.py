"""Starting, holding, restarting and stopping the servers of a checkout; safe from many processes at once."""

import os
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from .catalogue import server_class
from .errors import ServiceError
from .instance import Instance
from .processes import Process
from .state import Record, State

PROJECT = Path(__file__).resolve().parents[2]

DATA = "UMBEL_TEST_DATA"
"""The variable with the directory for the data of servers that are started; `.services/` of the checkout without it."""


class Registry:
    """The servers of the checkout at `project`, recorded in its `.services/`."""

    def __init__(self, project: Path = PROJECT) -> None:
        records = project / ".services"
        self.state = State(records, Path(os.environ.get(DATA) or records))

    def running(self, name: str) -> Record | None:
        """The shared server of that system when it runs, else None."""
        record = self.state.read(name)
        return record if record is not None and record.instance.complete and record.instance.running() else None

    def start(self, name: str, holder: Process | None = None) -> tuple[Record, bool]:
        """The shared server of a system, started when it does not run, and whether it was.

        With a `holder` it is wanted while that process lives, without one until `stop`. Raises ServiceError.
        """
        with self.state.locked(name):
            record = self.running(name)
            if record is None:
                return self._create(name, name, holder), True
            if holder is None:
                record.kept = True
            elif holder not in record.holders:
                record.holders.append(holder)
            self.state.write(record)
            return record, False

    def start_private(self, name: str, key: str, holder: Process) -> Record:
        """A server for `holder` alone, under a key of its own. Raises ServiceError."""
        with self.state.locked(key):
            return self._create(name, key, holder)

    def save(self, record: Record) -> None:
        """Write down how a server stands after its holder stopped or started it."""
        with self.state.locked(record.key):
            self.state.write(record)

    def restart(self, name: str, *, kill: bool) -> Record:
        """Stop (or SIGKILL) a shared server and start it with the same ports and data. Raises ServiceError."""
        with self.state.locked(name):
            record = self.state.read(name)
            if record is None or not record.instance.complete:
                raise ServiceError(f"{name} was not started")
            if kill:
                record.instance.kill()
            else:
                record.instance.stop()
            record.instance.start(lambda _: self.state.write(record))
            return record

    def stop(self, key: str, *, force: bool = False) -> str:
        """End the wish of `start` without a holder, and stop the server unless a test session still holds it.

        Returns what happened, in words.
        """
        with self.state.locked(key):
            record = self.state.read(key)
            if record is None:
                return "not running"
            record.kept = False
            if record.wanted() and not force:
                self.state.write(record)
                users = ", ".join(str(holder.pid) for holder in record.holders)
                return f"still used by process {users}; stops when that ends (or: stop --force)"
            return self._discard(record)

    def release(self, holder: Process) -> list[str]:
        """End every hold of that process and stop what nobody wants; returns the keys of what was stopped."""
        return self._each(self.state.recorded(), lambda key: self._release(key, holder))

    def sweep(self) -> list[str]:
        """Stop what is neither kept nor held by a living process; returns the keys of what was stopped."""
        return self._each(self.state.recorded(), lambda key: self._release(key, None))

    def _release(self, key: str, holder: Process | None) -> bool:
        record = self.state.read(key)
        if record is None or (holder not in record.holders and record.wanted()):
            return False
        with self.state.locked(key):
            record = self.state.read(key)
            if record is None:
                return False
            before = list(record.holders)
            record.holders = [held for held in record.holders if held != holder]
            if not record.wanted():
                self._discard(record)
                return True
            if record.holders != before:
                self.state.write(record)
            return False

    def _create(self, name: str, key: str, holder: Process | None) -> Record:
        """Start a server in place of whatever a dead or unfinished one of that key left behind."""
        stale = self.state.read(key)
        if stale is not None:
            self._discard(stale)
        holders = [] if holder is None else [holder]

        def save(instance: Instance) -> None:
            self.state.write(Record(key, instance, kept=holder is None, holders=list(holders)))

        try:
            instance = Instance.create(server_class(name), self.state.home(key), save)
        except BaseException:
            self.state.delete(key)
            raise
        return Record(key, instance, kept=holder is None, holders=holders)

    def _discard(self, record: Record) -> str:
        ran = record.instance.running()
        record.instance.discard()
        self.state.delete(record.key)
        return "stopped" if ran else "had ended by itself"

    @staticmethod
    def _each(keys: Iterable[str], done: Callable[[str], bool]) -> list[str]:
        listed = list(keys)
        with ThreadPoolExecutor(max_workers=max(1, len(listed))) as pool:
            return [key for key, changed in zip(listed, pool.map(done, listed), strict=True) if changed]
