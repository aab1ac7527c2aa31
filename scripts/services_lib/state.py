"""What runs, on disk: one JSON record a server under `.services/`, each guarded by a lock file.

Records are shared by every command and test session of the checkout. A server lives while it is *kept* (started by
hand) or has a living *holder* (a test session); whoever ends a hold stops what nobody wants any more.
"""

import fcntl
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from .catalogue import server_class
from .errors import ServiceError
from .instance import Instance
from .processes import Process


@dataclass
class Record:
    """A server that was started: `key` is its system's name, or that and a suffix for a private one."""

    key: str
    instance: Instance
    kept: bool = False
    holders: list[Process] = field(default_factory=list[Process])

    @property
    def private(self) -> bool:
        return self.key != self.instance.server.name

    def wanted(self) -> bool:
        """Whether anybody still wants it to run; forgets holders that are gone."""
        self.holders = [holder for holder in self.holders if holder.alive()]
        return self.kept or bool(self.holders)


class State:
    """The records of one checkout, in `directory`; `data` is where servers that are started now have their data."""

    def __init__(self, directory: Path, data: Path) -> None:
        self.directory = directory
        self.data = data

    def recorded(self) -> list[str]:
        return sorted(path.stem for path in self.directory.glob("*.json"))

    def home(self, key: str) -> Path:
        return self.data / key

    @contextmanager
    def locked(self, key: str) -> Iterator[None]:
        """Keep other processes and threads from changing that server."""
        self.directory.mkdir(exist_ok=True)
        with (self.directory / f"{key}.lock").open("a") as handle:
            fcntl.flock(handle, fcntl.LOCK_EX)
            yield

    def read(self, key: str) -> Record | None:
        """The record of a server, running or not; None when there is none. Raises ServiceError for a damaged one."""
        try:
            text = self._path(key).read_text()
        except FileNotFoundError:
            return None
        try:
            return _decode(json.loads(text))
        except (ValueError, KeyError, TypeError) as error:
            raise ServiceError(f"{self._path(key)} is damaged ({error!r}); delete it") from error

    def write(self, record: Record) -> None:
        draft = self._path(record.key).with_suffix(f".{os.getpid()}")
        draft.write_text(json.dumps(_encode(record), indent=1))
        draft.replace(self._path(record.key))

    def delete(self, key: str) -> None:
        self._path(key).unlink(missing_ok=True)

    def _path(self, key: str) -> Path:
        return self.directory / f"{key}.json"


def _encode(record: Record) -> dict[str, Any]:
    def plain(processes: list[Process]) -> list[list[Any]]:
        return [[process.pid, process.identity] for process in processes]

    instance = record.instance
    return {
        "key": record.key,
        "name": instance.server.name,
        "url": instance.server.url,
        "home": str(instance.server.home),
        "ports": dict(instance.server.ports),
        "leaders": plain(instance.leaders),
        "processes": plain(instance.processes),
        "complete": instance.complete,
        "kept": record.kept,
        "holders": plain(record.holders),
    }


def _decode(data: dict[str, Any]) -> Record:
    def processes(field_name: str) -> list[Process]:
        return [Process(pid, identity) for pid, identity in data[field_name]]

    server = server_class(data["name"])(Path(data["home"]), data["ports"])
    instance = Instance(
        server, leaders=processes("leaders"), processes=processes("processes"), complete=data["complete"]
    )
    return Record(data["key"], instance, data["kept"], processes("holders"))
