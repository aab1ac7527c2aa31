"""PostgreSQL: one cluster without passwords, run by an unprivileged user also when the caller is root."""

import os
import pwd
import shutil
import signal
import socket
import stat
import struct
import subprocess
import tempfile
from collections.abc import Sequence
from pathlib import Path

from .errors import NotReady, ServiceError
from .server import Command, Server

_PROTOCOL = 3 << 16
_ENVIRONMENT = {"LC_ALL": "C.UTF-8"}


class PostgreSQL(Server):
    """A PostgreSQL cluster on TCP only, durable as by default."""

    name = "postgresql"
    packages = ("postgresql",)
    programs = ("initdb", "postgres")
    program_directories = ("/usr/lib/postgresql/*/bin", "/usr/pgsql-*/bin")

    @property
    def url(self) -> str:
        return f"postgresql://postgres@127.0.0.1:{self.port}/postgres"

    @classmethod
    def make_home(cls, directory: Path) -> Path:
        if os.geteuid() != 0:
            return super().make_home(directory)
        directory.parent.mkdir(parents=True, exist_ok=True)
        if all(parent.stat().st_mode & stat.S_IXOTH for parent in directory.parents):
            home = super().make_home(directory)
        else:
            home = Path(tempfile.mkdtemp(prefix="umbel-postgresql-"))
        home.chmod(0o755)
        return home

    def prepare(self) -> None:
        data = self.home / "data"
        data.mkdir(mode=0o700)
        if os.geteuid() == 0:
            user = _unprivileged_user()
            os.chown(data, user.pw_uid, user.pw_gid)
        options = ["-U", "postgres", "-A", "trust", "-E", "UTF8", "--locale=C", "--no-sync"]
        done = subprocess.run(
            [*_as_unprivileged(), self.program("initdb"), "-D", str(data), *options],
            cwd=self.home,
            env={**os.environ, **_ENVIRONMENT},
            capture_output=True,
            text=True,
        )
        if done.returncode != 0:
            raise ServiceError(f"initdb failed: {done.stderr.strip() or done.stdout.strip()}")

    def commands(self) -> Sequence[Command]:
        settings = {
            "listen_addresses": "127.0.0.1",
            "unix_socket_directories": "",
            "max_connections": "200",
        }
        arguments = [text for key, value in settings.items() for text in ("-c", f"{key}={value}")]
        program = [*_as_unprivileged(), self.program("postgres"), "-D", str(self.home / "data")]
        return [Command([*program, "-p", str(self.port), *arguments], _ENVIRONMENT, signal.SIGINT)]

    def probe(self) -> None:
        parameters = b"user\0postgres\0database\0postgres\0\0"
        with socket.create_connection(("127.0.0.1", self.port), timeout=5) as connection:
            connection.sendall(struct.pack("!ii", 8 + len(parameters), _PROTOCOL) + parameters)
            with connection.makefile("rb") as stream:
                while (header := stream.read(5)) and header[:1] != b"Z":
                    body = stream.read(struct.unpack("!i", header[1:])[0] - 4)
                    if header[:1] == b"E":
                        raise NotReady(body.replace(b"\0", b" ").decode(errors="replace"))
                if not header:
                    raise NotReady("connection closed before the server was ready")
            connection.sendall(b"X\0\0\0\4")

    def after_kill(self) -> None:
        # Where process 1 does not reap orphans, as in many containers, the killed server's pid seems alive to the next.
        (self.home / "data" / "postmaster.pid").unlink(missing_ok=True)


def _unprivileged_user() -> pwd.struct_passwd:
    for name in ("postgres", "nobody"):
        try:
            return pwd.getpwnam(name)
        except KeyError:
            continue
    raise ServiceError("PostgreSQL refuses to run as root, and there is no user postgres or nobody to run it as")


def _as_unprivileged() -> list[str]:
    """What to put before a command so that it does not run as root; it stays the same process."""
    if os.geteuid() != 0:
        return []
    setpriv = shutil.which("setpriv")
    if setpriv is None:
        raise ServiceError("PostgreSQL refuses to run as root, and setpriv (package util-linux) is missing")
    user = _unprivileged_user()
    return [setpriv, f"--reuid={user.pw_uid}", f"--regid={user.pw_gid}", "--clear-groups", "--"]
