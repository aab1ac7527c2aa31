"""MariaDB: one server on which root needs no password, with a database named umbel."""

import getpass
import subprocess
from collections.abc import Sequence

from .errors import NotReady, ServiceError
from .server import Command, Server


class MariaDB(Server):
    """A MariaDB server with default durability and a small buffer pool."""

    name = "mariadb"
    packages = ("mariadb-server",)
    programs = ("mariadb-install-db", "mariadbd", "mariadb")

    @property
    def url(self) -> str:
        return f"mariadb://root@127.0.0.1:{self.port}/umbel"

    def prepare(self) -> None:
        done = subprocess.run(
            [
                self.program("mariadb-install-db"),
                "--no-defaults",
                "--auth-root-authentication-method=normal",
                f"--user={getpass.getuser()}",
                f"--datadir={self.home / 'data'}",
                "--skip-test-db",
            ],
            capture_output=True,
            text=True,
        )
        if done.returncode != 0:
            raise ServiceError(f"mariadb-install-db failed: {done.stderr.strip() or done.stdout.strip()}")

    def commands(self) -> Sequence[Command]:
        # The socket is relative to the data directory: an absolute path may exceed the system's 107 bytes.
        options = {
            "user": getpass.getuser(),
            "datadir": self.home / "data",
            "socket": "server.sock",
            "pid-file": "server.pid",
            "bind-address": "127.0.0.1",
            "port": self.port,
            "innodb-buffer-pool-size": "64M",
            "max-connections": 300,
        }
        arguments = [f"--{option}={value}" for option, value in options.items()]
        return [Command([self.program("mariadbd"), "--no-defaults", "--skip-name-resolve", *arguments])]

    def probe(self) -> None:
        self._execute("SELECT 1")

    def initialise(self) -> None:
        self._execute("CREATE DATABASE IF NOT EXISTS umbel")

    def _execute(self, statement: str) -> None:
        client = [self.program("mariadb"), "--no-defaults", "--protocol=tcp", "-h127.0.0.1", f"-P{self.port}", "-uroot"]
        done = subprocess.run(
            [*client, "--connect-timeout=5", "-e", statement], capture_output=True, text=True, timeout=30
        )
        if done.returncode != 0:
            raise NotReady(done.stderr.strip())
