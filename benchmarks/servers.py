"""Private servers of a benchmark run: on free loopback ports, with data in the scratch directory.

They are started when a system asks for them, shared by all systems, and ended by the scope's reaper.
"""

from __future__ import annotations

import glob
import os
import pwd
import re
import shutil
import socket
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from benchmarks.processes import BenchmarkError, Scope

REDIS_ARGUMENTS = ("--bind", "127.0.0.1", "--save", "", "--appendonly", "no", "--set-proc-title", "no")
"""A title of its own would be written over the environment by which `Scope` knows its processes."""
PROTOCOL_HEADER = b"AMQP\x00\x00\x09\x01"


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def wait_until(ready: Callable[[], bool], what: str, timeout: float) -> None:
    deadline = time.monotonic() + timeout
    while not ready():
        if time.monotonic() > deadline:
            raise BenchmarkError(f"{what} was not ready within {timeout:.0f} s")
        time.sleep(0.05)


def answers(port: int, request: bytes, expected: bytes) -> bool:
    """Whether the server on this port answers `request` with something that begins with `expected`."""
    try:
        with socket.create_connection(("127.0.0.1", port), timeout=2) as connection:
            connection.sendall(request)
            return connection.recv(64).startswith(expected)
    except OSError:
        return False


def program(name: str, *patterns: str) -> str:
    """Path of a server program; raises BenchmarkError with what to install."""
    for pattern in patterns:
        if found := sorted(glob.glob(f"{pattern}/{name}")):
            return found[-1]
    if found_on_path := shutil.which(name):
        return found_on_path
    raise BenchmarkError(f"{name} is not installed (Debian: apt install redis-server rabbitmq-server postgresql)")


class Servers:
    """Starts each server once; gives addresses for a fresh, empty place on it."""

    def __init__(self, scope: Scope) -> None:
        self.scope = scope
        self.versions: dict[str, str] = {}
        self._redis = 0
        self._rabbitmq = 0
        self._postgresql = 0
        self._postgresql_bin = Path()
        self._postgresql_user = ""
        self._databases = 0

    def redis_url(self, database: int) -> str:
        """The URL of a database of the Redis server, which `clear_redis` empties."""
        return f"redis://127.0.0.1:{self.redis_port()}/{database}"

    def redis_port(self) -> int:
        if not self._redis:
            server = program("redis-server")
            port = free_port()
            directory = self._directory("redis")
            self.scope.spawn([server, "--port", str(port), "--dir", str(directory), *REDIS_ARGUMENTS], "redis.log")
            wait_until(lambda: answers(port, b"PING\r\n", b"+PONG"), "redis-server", 10)
            self.versions["redis-server"] = _version([server, "--version"])
            self._redis = port
        return self._redis

    def clear_redis(self) -> None:
        if self._redis and not answers(self._redis, b"FLUSHALL\r\n", b"+OK"):
            raise BenchmarkError("FLUSHALL failed")

    def rabbitmq_url(self) -> str:
        """The URL of the RabbitMQ server; each run takes queues of its own names."""
        if not self._rabbitmq:
            self._rabbitmq = self._start_rabbitmq()
        return f"amqp://guest:guest@127.0.0.1:{self._rabbitmq}/%2F"

    def postgresql_url(self) -> str:
        """The URL of a new, empty PostgreSQL database."""
        if not self._postgresql:
            self._postgresql = self._start_postgresql()
        self._databases += 1
        name = f"bench_{self._databases}"
        self._psql(f"create database {name}")
        return f"postgresql://{self._postgresql_user}@127.0.0.1:{self._postgresql}/{name}"

    def drop_database(self, url: str) -> None:
        self._psql(f"drop database {url.rpartition('/')[2]} with (force)")

    def sqlite_url(self) -> str:
        """The URL of a SQLite file that does not exist yet."""
        self._databases += 1
        return f"sqlite:///{self._directory(f'sqlite_{self._databases}')}/queue.db"

    def _directory(self, name: str) -> Path:
        directory = self.scope.directory / name
        directory.mkdir()
        return directory

    def _start_rabbitmq(self) -> int:
        server = program("rabbitmq-server", "/usr/lib/rabbitmq/lib/rabbitmq_server-*/sbin")
        home = self._directory("rabbitmq")
        (home / "plugins").write_text("[].\n")
        (home / "rabbitmq.conf").write_text("loopback_users.guest = true\n")
        port, distribution, mapper = free_port(), free_port(), free_port()
        environment = {
            "HOME": str(home),
            "PATH": f"{Path(server).parent}:{os.environ['PATH']}",
            "RABBITMQ_NODENAME": "bench@localhost",
            "RABBITMQ_NODE_IP_ADDRESS": "127.0.0.1",
            "RABBITMQ_NODE_PORT": str(port),
            "RABBITMQ_DIST_PORT": str(distribution),
            "ERL_EPMD_PORT": str(mapper),
            "ERL_EPMD_ADDRESS": "127.0.0.1",
            "RABBITMQ_MNESIA_BASE": str(home / "mnesia"),
            "RABBITMQ_LOG_BASE": str(home / "log"),
            "RABBITMQ_PID_FILE": str(home / "pid"),
            "RABBITMQ_ENABLED_PLUGINS_FILE": str(home / "plugins"),
            "RABBITMQ_CONFIG_FILE": str(home / "rabbitmq.conf"),
            "RABBITMQ_CONF_ENV_FILE": "/dev/null",
            "RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS": "-kernel inet_dist_use_interface {127,0,0,1} +sbwt none",
        }
        self.scope.spawn([server], "rabbitmq.log", environment)
        wait_until(lambda: answers(port, PROTOCOL_HEADER, b"\x01"), "rabbitmq-server", 60)
        self.versions["rabbitmq-server"] = server.partition("rabbitmq_server-")[2].partition("/")[0] or "unknown"
        return port

    def _start_postgresql(self) -> int:
        self._postgresql_bin = Path(program("initdb", "/usr/lib/postgresql/*/bin")).parent
        self._postgresql_user = _unprivileged_user()
        home = self._directory("postgresql")
        if os.getuid() == 0:
            shutil.chown(home, self._postgresql_user)
        data = str(home / "data")
        self._as_postgres("initdb", "-D", data, "-A", "trust", "--no-sync", "-U", self._postgresql_user)
        port = free_port()
        options: dict[str, Any] = {"user": self._postgresql_user} if os.getuid() == 0 else {}
        self.scope.spawn(
            [
                str(self._postgresql_bin / "postgres"),
                *("-D", data, "-p", str(port), "-k", str(home), "-c", "listen_addresses=127.0.0.1"),
            ],
            "postgresql.log",
            cwd=home,
            **options,
        )
        self._postgresql = port
        wait_until(lambda: self._can_query(), "postgres", 20)
        self.versions["postgresql"] = _version([str(self._postgresql_bin / "postgres"), "--version"])
        return port

    def _as_postgres(self, name: str, *arguments: str) -> subprocess.CompletedProcess[str]:
        options: dict[str, Any] = {"user": self._postgresql_user} if os.getuid() == 0 else {}
        done = subprocess.run(
            [str(self._postgresql_bin / name), *arguments],
            cwd=self.scope.directory,
            capture_output=True,
            text=True,
            **options,
        )
        if done.returncode:
            raise BenchmarkError(f"{name} failed: {done.stderr.strip()}")
        return done

    def _psql(self, statement: str) -> None:
        self._as_postgres(
            "psql",
            *("-h", "127.0.0.1", "-p", str(self._postgresql), "-U", self._postgresql_user, "-d", "postgres"),
            *("-q", "-X", "-v", "ON_ERROR_STOP=1", "-c", statement),
        )

    def _can_query(self) -> bool:
        try:
            self._psql("select 1")
        except BenchmarkError:
            return False
        return True


def _unprivileged_user() -> str:
    if os.getuid() != 0:
        return pwd.getpwuid(os.getuid()).pw_name
    try:
        return pwd.getpwnam("postgres").pw_name
    except KeyError:
        return "nobody"


def _version(command: list[str]) -> str:
    words = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    found = re.search(r"\d+(\.\d+)+", words)
    return found.group() if found else words.strip()
