"""How a worker is: asked by ``umbel health`` through a Unix socket, and by probes over HTTP.

Both are answered by the supervisor's event loop, so that an answer alone says that it lives. The socket is a file named
after the node, in ``runtime_directory()``; whoever connects gets one JSON object.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import logging
import os
import re
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec
from msgspec import Struct

from umbel.errors import ConfigurationError

if TYPE_CHECKING:
    from umbel.worker.supervisor import Worker

logger = logging.getLogger("umbel.worker.health")

DIRECTORY = "UMBEL_RUNTIME_DIR"
_LONGEST_PATH = 100
_REQUEST_TIMEOUT = 5.0
_REQUEST_LIMIT = 8192


class Health(Struct, kw_only=True):
    """What a worker says of itself.

    ``live``: it works or can be expected to; one that is not is best started again. ``ready``: it takes tasks now.
    ``problem``: why it is not both, for people. ``uptime``: seconds. ``held``: tasks that run or are about to.
    """

    node: str
    pid: int
    live: bool
    ready: bool
    problem: str = ""
    uptime: float = 0.0
    executors: int = 0
    held: int = 0


def examine(worker: Worker) -> Health:
    """How ``worker`` is. Loop thread."""
    now = time.monotonic()
    patience = worker.app.conf.worker_stall_timeout
    unanswered = now - max(worker.board.lease_end, worker.started_at)
    connected = worker.consumer.link is not None and worker.board.lease_is_good()
    executors = worker.executor_count()
    dead, waiting = "", ""
    if worker.stalled:
        dead = "work waits, but none is claimed"
    elif not connected and unanswered > patience:
        dead = f"the broker has not answered for {unanswered:.0f} s"
    if worker.stopping:
        dead, waiting = "", "it is shutting down"
    elif not connected:
        waiting = "it is not connected to the broker"
    elif not executors:
        waiting = "no executor runs"
    return Health(
        node=worker.hostname,
        pid=os.getpid(),
        live=not dead,
        ready=not dead and not waiting,
        problem=dead or waiting,
        uptime=round(now - worker.started_at, 3),
        executors=executors,
        held=worker.flow.held(),
    )


def runtime_directory() -> Path:
    """Where sockets of this user's workers are: ``$UMBEL_RUNTIME_DIR``, or ``umbel-<uid>`` among temporary files."""
    given = os.environ.get(DIRECTORY)
    return Path(given) if given else Path(tempfile.gettempdir()) / f"umbel-{os.getuid()}"


def socket_path(node: str) -> Path:
    """The socket of ``node``; its name is shortened where the system would not take it."""
    directory = runtime_directory()
    path = directory / (re.sub(r"[^\w.@-]", "_", node) + ".sock")
    if len(os.fsencode(path)) > _LONGEST_PATH:
        path = directory / (hashlib.sha256(node.encode()).hexdigest()[:16] + ".sock")
    return path


def parse_address(text: str) -> tuple[str | None, int]:
    """``PORT`` or ``HOST:PORT``; None for all interfaces. Raises ConfigurationError."""
    host, _, port = text.rpartition(":")
    if not port.isdecimal() or not 0 <= int(port) < 1 << 16:
        raise ConfigurationError(f"the address for health checks must be PORT or HOST:PORT, not {text!r}")
    return host.strip("[]") or None, int(port)


class HealthServer:
    """Answers for ``worker`` from ``start`` to ``close``, in the running event loop."""

    def __init__(self, worker: Worker) -> None:
        self.worker = worker
        self._servers: list[asyncio.Server] = []
        self._socket: tuple[Path, int] | None = None

    async def start(self) -> None:
        """Raises OSError when the HTTP port cannot be had; without the socket the worker goes on."""
        address = self.worker.app.conf.worker_health_address
        if address:
            host, port = parse_address(address)
            server = await asyncio.start_server(
                self._on_request, host, port, limit=_REQUEST_LIMIT, reuse_port=self.worker.app.conf.worker_reload
            )
            self._servers.append(server)
            bound = sorted({each.getsockname()[1] for each in server.sockets})
            logger.info("health is told over HTTP", extra={"data": {"host": host or "*", "port": bound[0]}})
        path = socket_path(self.worker.hostname)
        try:
            path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            if path.parent.stat().st_uid != os.getuid():
                raise PermissionError(f"{path.parent} belongs to another user")
            self._servers.append(await asyncio.start_unix_server(self._on_question, path))
            self._socket = path, path.stat().st_ino
        except OSError as error:
            logger.warning("`umbel health` will not find this worker: %s (%s)", error, path)

    def close(self) -> None:
        if self._socket is not None:
            path, inode = self._socket
            with contextlib.suppress(FileNotFoundError):
                if path.stat().st_ino == inode:
                    path.unlink()
        for server in self._servers:
            server.close()

    def _answer(self) -> bytes:
        return msgspec.json.encode(examine(self.worker)) + b"\n"

    async def _on_question(self, _: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await _send(writer, self._answer())

    async def _on_request(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            head = await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), _REQUEST_TIMEOUT)
        except (asyncio.IncompleteReadError, asyncio.LimitOverrunError, TimeoutError, ConnectionError):
            writer.close()
            return
        await _send(writer, self._response(head))

    def _response(self, head: bytes) -> bytes:
        method, _, rest = head.split(b"\r\n", 1)[0].decode("latin-1").partition(" ")
        path = rest.partition(" ")[0].partition("?")[0]
        health = examine(self.worker)
        known = {"/livez": health.live, "/readyz": health.ready}
        if method not in ("GET", "HEAD"):
            status, body = "405 Method Not Allowed", b'{"error":"only GET and HEAD"}\n'
        elif path not in known:
            status, body = "404 Not Found", b'{"error":"there are /livez and /readyz"}\n'
        else:
            status = "200 OK" if known[path] else "503 Service Unavailable"
            body = msgspec.json.encode(health) + b"\n"
        lines = [
            f"HTTP/1.1 {status}",
            "Content-Type: application/json",
            f"Content-Length: {len(body)}",
            "Cache-Control: no-store",
            "Connection: close",
        ]
        return "\r\n".join([*lines, "", ""]).encode() + (b"" if method == "HEAD" else body)


async def _send(writer: asyncio.StreamWriter, data: bytes) -> None:
    with contextlib.suppress(ConnectionError):
        writer.write(data)
        await writer.drain()
    writer.close()
