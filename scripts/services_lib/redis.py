"""Redis: one node in memory, and a variant that keeps its data across restarts."""

import socket
from collections.abc import Sequence

from .errors import NotReady
from .server import Command, Server


class Redis(Server):
    """A Redis node with many databases, so that each test can have one of its own."""

    name = "redis"
    packages = ("redis-server",)
    programs = ("redis-server",)
    databases = 4096
    persistence: Sequence[str] = ("--appendonly", "no")

    @property
    def url(self) -> str:
        return f"redis://127.0.0.1:{self.port}/0"

    def prepare(self) -> None:
        (self.home / "data").mkdir()

    def commands(self) -> Sequence[Command]:
        options = {
            "--port": str(self.port),
            "--bind": "127.0.0.1",
            "--dir": str(self.home / "data"),
            "--databases": str(self.databases),
            "--save": "",
        }
        arguments = [text for option in options.items() for text in option]
        return [Command([self.program("redis-server"), *arguments, *self.persistence])]

    def probe(self) -> None:
        with socket.create_connection(("127.0.0.1", self.port), timeout=2) as connection:
            self._ping(connection)

    @staticmethod
    def _ping(connection: socket.socket) -> None:
        connection.sendall(b"PING\r\n")
        answer = connection.recv(64)
        if not answer.startswith(b"+PONG"):
            raise NotReady(answer.decode(errors="replace").strip())


class DurableRedis(Redis):
    """A Redis node whose append-only file survives a restart and a SIGKILL with all that was answered.

    What was written outlives the process without a sync. With ``everysec`` not all would be written: while a sync on
    a busy disk takes its time, Redis answers for up to two seconds before it writes.
    """

    name = "redis-durable"
    persistence = ("--appendonly", "yes", "--appendfsync", "no")
