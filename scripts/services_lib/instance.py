"""The life-cycle of one server: created, started, stopped, killed, started again with the same ports and data."""

import os
import shutil
import time
from collections.abc import Callable, Mapping
from pathlib import Path

from .errors import NotReady, ServiceError
from .ports import free_port
from .processes import Process, kill, spawn, terminate, with_descendants
from .server import Server

_ATTEMPTS = 3
_LOG_LINES = 15


class Instance:
    """One server with its home and ports.

    `leaders` are the programs that were started, `processes` all that were seen of them; `complete` says that the
    server came up once, so that its data is worth starting again.
    """

    def __init__(
        self,
        server: Server,
        *,
        leaders: list[Process] | None = None,
        processes: list[Process] | None = None,
        complete: bool = False,
    ) -> None:
        self.server = server
        self.leaders = leaders or []
        self.processes = processes or []
        self.complete = complete

    @classmethod
    def create(cls, system: type[Server], directory: Path, save: "Callable[[Instance], None]") -> "Instance":
        """Create a server in `directory` on free ports and start it; `save` is called whenever its state changes.

        A server that ends at once may have lost its port to another program: it is tried again on other ports.
        Raises NotInstalled when programs are missing, ServiceError when it does not come up.
        """
        for program in system.programs:
            system.program(program)
        for attempt in range(1, _ATTEMPTS + 1):
            shutil.rmtree(directory, ignore_errors=True)
            ports = {name: free_port() for name in system.port_names}
            instance = cls(system(system.make_home(directory), ports))
            try:
                instance.server.prepare()
                instance.start(save)
                instance.server.initialise()
                instance.complete = True
                save(instance)
            except (ServiceError, NotReady) as error:
                instance.discard()
                if attempt == _ATTEMPTS or not isinstance(error, EndedEarly):
                    raise
            except BaseException:
                instance.discard()
                raise
            else:
                return instance
        raise AssertionError("unreachable")

    @property
    def log(self) -> Path:
        return self.server.home / "log"

    def running(self) -> bool:
        """Whether every program of it is alive."""
        return bool(self.leaders) and all(leader.alive() for leader in self.leaders)

    def start(self, save: "Callable[[Instance], None]") -> None:
        """Run its programs and wait until it serves clients; `save` is called when they run and when it does.

        Raises ServiceError, and leaves nothing running then.
        """
        self.leaders, self.processes = [], []
        try:
            for command in self.server.commands():
                env = _environment(command.env)
                self.leaders.append(spawn(command.argv, env=env, log=self.log))
            save(self)
            self._await_readiness()
        except BaseException:
            self.kill()
            raise
        self.processes = self.family()
        save(self)

    def stop(self) -> None:
        """End it in good order: the last program first. Its data stays."""
        commands = self.server.commands() if self.running() else []
        for command, leader in reversed(list(zip(commands, self.leaders, strict=False))):
            terminate(leader, command.stop_signal, self.server.stop_patience)
        self.kill()

    def family(self) -> list[Process]:
        """All its living processes."""
        return with_descendants([*self.leaders, *self.processes])

    def kill(self) -> None:
        """SIGKILL all its processes at once, as a crash of the machine would. Its data stays."""
        kill(self.family())
        self.server.after_kill()
        self.leaders, self.processes = [], []

    def discard(self) -> None:
        """Stop it and delete its data."""
        self.stop()
        shutil.rmtree(self.server.home, ignore_errors=True)

    def _await_readiness(self) -> None:
        deadline = time.monotonic() + self.server.start_patience
        while True:
            try:
                return self.server.probe()
            except (NotReady, OSError) as error:
                if not self.running():
                    raise EndedEarly(
                        f"{self.server.name} ended while starting; its log ends:\n{self._tail()}"
                    ) from error
                if time.monotonic() > deadline:
                    raise ServiceError(
                        f"{self.server.name} does not answer after {self.server.start_patience:.0f} s ({error}); "
                        f"its log ends:\n{self._tail()}"
                    ) from error
            time.sleep(0.03)

    def _tail(self) -> str:
        text = self.log.read_text(errors="replace") if self.log.exists() else ""
        return "\n".join(f"    {line}" for line in text.splitlines()[-_LOG_LINES:])


class EndedEarly(ServiceError):
    """The server ended before it served anybody."""


def _environment(additions: Mapping[str, str]) -> dict[str, str]:
    return {**os.environ, **additions}
