"""The contract of one system: what it needs, how a private server of it is run, and when it is ready."""

import glob
import os
import shutil
import signal
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import ClassVar

from .errors import NotInstalled

_SYSTEM_DIRECTORIES = ("/usr/local/sbin", "/usr/sbin", "/sbin", "/opt/homebrew/bin")


@dataclass(frozen=True)
class Command:
    """A program to run: its arguments, what is added to the environment, the signal that ends it in good order."""

    argv: Sequence[str]
    env: Mapping[str, str] = field(default_factory=dict[str, str])
    stop_signal: signal.Signals = signal.SIGTERM


class Server(ABC):
    """A server of one system, with its data in `home` and its ports fixed, whether it runs or not.

    Subclasses state the class variables and the five methods below; the life-cycle is `instance.Instance`'s.
    """

    name: ClassVar[str]
    packages: ClassVar[Sequence[str]]
    """Debian packages that bring it."""
    programs: ClassVar[Sequence[str]]
    """Programs that must be found before it can be started."""
    program_directories: ClassVar[Sequence[str]] = ()
    """Glob patterns of directories to look in first, the highest match winning."""
    port_names: ClassVar[Sequence[str]] = ("main",)
    start_patience: ClassVar[float] = 60.0
    """Seconds until it must answer."""
    stop_patience: ClassVar[float] = 20.0
    """Seconds to end in good order before it is killed."""

    def __init__(self, home: Path, ports: Mapping[str, int]) -> None:
        self.home = home
        self.ports = ports

    @property
    def port(self) -> int:
        return self.ports["main"]

    @property
    @abstractmethod
    def url(self) -> str:
        """Where clients find it."""

    @abstractmethod
    def prepare(self) -> None:
        """Create data and configuration in `home`; called once, before the first start."""

    @abstractmethod
    def commands(self) -> Sequence[Command]:
        """The programs to run, in the order of their start; each stays in the foreground."""

    @abstractmethod
    def probe(self) -> None:
        """Return when it serves clients; raise NotReady or OSError while it does not."""

    def initialise(self) -> None:
        """Create what clients expect to find; called once, when it is ready for the first time."""
        return

    def after_kill(self) -> None:
        """Remove what a killed server leaves behind and would not start with; all its processes are gone."""
        return

    @classmethod
    def make_home(cls, directory: Path) -> Path:
        """The directory for its data: `directory` itself, unless its user could not reach that."""
        directory.mkdir(parents=True, exist_ok=True)
        return directory

    @classmethod
    def program(cls, name: str) -> str:
        """The absolute path of a program of this system. Raises NotInstalled."""
        preferred = [found for pattern in cls.program_directories for found in sorted(glob.glob(pattern), reverse=True)]
        path = os.pathsep.join([*preferred, os.environ.get("PATH", os.defpath), *_SYSTEM_DIRECTORIES])
        found = shutil.which(name, path=path)
        if found is None:
            raise NotInstalled(f"{cls.name}: {name} is not installed; run: scripts/services install {cls.name}")
        return found

    @classmethod
    def missing(cls) -> list[str]:
        """Those of its programs that this machine does not have."""
        absent: list[str] = []
        for name in cls.programs:
            try:
                cls.program(name)
            except NotInstalled:
                absent.append(name)
        return absent
