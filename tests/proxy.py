"""A TCP proxy that makes the network fail on demand, for failure tests.

It stands between a client and a server on loopback. `up` is the way from client to server, `down` the way back.
All methods may be called from any thread and return when what they ask for is in force.
"""

import asyncio
import socket
import struct
import threading
import time
from collections.abc import Coroutine
from types import TracebackType
from typing import Any, Literal
from urllib.parse import urlsplit

Direction = Literal["up", "down"]

_CHUNK = 65536
_RESET = struct.pack("ii", 1, 0)


class TCPProxy:
    """Forwards connections made to `127.0.0.1:port` to a server, until told otherwise.

    A context manager; started by entering it or by `start()`.
    """

    def __init__(self, host: str, port: int) -> None:
        self.target = (host, port)
        self.port = 0
        self.accepted = 0
        """Connections accepted since the start."""
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="tcp-proxy", daemon=True)
        self._listener: socket.socket | None = None
        self._accepting: asyncio.Task[None] | None = None
        self._links: set[asyncio.Task[None]] = set()
        self._delay = 0.0
        self._budget: dict[Direction, int | None] = {"up": None, "down": None}
        self._open: dict[Direction, asyncio.Event] = {"up": asyncio.Event(), "down": asyncio.Event()}

    @classmethod
    def to(cls, url: str) -> "TCPProxy":
        """A proxy to the server of that URL, which must name host and port."""
        parts = urlsplit(url)
        if parts.hostname is None or parts.port is None:
            raise ValueError(f"no host and port in {url!r}")
        return cls(parts.hostname, parts.port)

    def url(self, url: str) -> str:
        """The same URL, leading through this proxy."""
        parts = urlsplit(url)
        user, at, _ = parts.netloc.rpartition("@")
        return parts._replace(netloc=f"{user}{at}127.0.0.1:{self.port}").geturl()

    @property
    def connections(self) -> int:
        """How many connections are open through it now."""
        return len(self._links)

    def start(self) -> "TCPProxy":
        self._thread.start()
        self._run(self._heal())
        return self

    def stop(self) -> None:
        """Cut all connections and end; it cannot be started again."""
        if self._thread.is_alive():
            self._run(self._refuse())
            self._run(self._cut())
            self._loop.call_soon_threadsafe(self._loop.stop)
            self._thread.join()
        self._loop.close()

    def __enter__(self) -> "TCPProxy":
        return self.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def cut(self) -> None:
        """Reset all connections; new ones are still accepted."""
        self._run(self._cut())

    def cut_after(self, size: int, direction: Direction = "up") -> None:
        """Reset a connection as soon as `size` more bytes, of all connections together, went in that direction.

        Nothing after them arrives; the last of them may be lost in the reset, as on a real network.
        """
        self._run(self._set_budget(direction, size))

    def refuse(self) -> None:
        """Refuse new connections; those that are open stay."""
        self._run(self._refuse())

    def delay(self, seconds: float) -> None:
        """Let everything take that much longer in each direction; throughput stays."""
        self._run(self._set_delay(seconds))

    def blackhole(self, *directions: Direction) -> None:
        """Pass nothing on in these directions (both when none is given), not even the end of a connection.

        New connections are accepted and hang. What was held back is delivered after `heal()`.
        """
        self._run(self._block(directions or ("up", "down")))

    def heal(self) -> None:
        """Undo `refuse`, `delay`, `blackhole` and `cut_after`."""
        self._run(self._heal())

    def _run(self, action: Coroutine[Any, Any, None]) -> None:
        asyncio.run_coroutine_threadsafe(action, self._loop).result(timeout=10)

    async def _heal(self) -> None:
        self._delay = 0.0
        for direction, gate in self._open.items():
            self._budget[direction] = None
            gate.set()
        if self._listener is None:
            self._listener = socket.create_server(("127.0.0.1", self.port), backlog=128)
            self._listener.setblocking(False)
            self.port = self._listener.getsockname()[1]
            self._accepting = self._loop.create_task(self._accept(self._listener))

    async def _refuse(self) -> None:
        if self._listener is None or self._accepting is None:
            return
        self._accepting.cancel()
        await asyncio.wait([self._accepting])
        self._listener.close()
        self._listener = self._accepting = None

    async def _cut(self) -> None:
        links = list(self._links)
        for link in links:
            link.cancel()
        if links:
            await asyncio.wait(links)

    async def _set_delay(self, seconds: float) -> None:
        self._delay = seconds

    async def _set_budget(self, direction: Direction, size: int) -> None:
        self._budget[direction] = size

    async def _block(self, directions: tuple[Direction, ...]) -> None:
        for direction in directions:
            self._open[direction].clear()

    async def _accept(self, listener: socket.socket) -> None:
        while True:
            client, _ = await self._loop.sock_accept(listener)
            self.accepted += 1
            link = self._loop.create_task(self._link(client))
            self._links.add(link)
            link.add_done_callback(self._links.discard)

    async def _link(self, client: socket.socket) -> None:
        """Serve one connection to its end: in good order when both sides closed it, by reset otherwise."""
        server = socket.socket()
        for end in (client, server):
            end.setblocking(False)
            end.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            end.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
        try:
            await self._open["up"].wait()
            await self._loop.sock_connect(server, self.target)
            async with asyncio.TaskGroup() as pumps:
                self._pump(pumps, client, server, "up")
                self._pump(pumps, server, client, "down")
        except* OSError:
            pass  # passed on to both sides: closing a socket that lingers for 0 s resets it
        else:
            for end in (client, server):
                end.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 0, 0))
        finally:
            client.close()
            server.close()

    def _pump(self, tasks: asyncio.TaskGroup, source: socket.socket, sink: socket.socket, direction: Direction) -> None:
        held: asyncio.Queue[tuple[float, bytes]] = asyncio.Queue(maxsize=256)
        tasks.create_task(self._read(source, held))
        tasks.create_task(self._write(sink, held, direction))

    async def _read(self, source: socket.socket, held: asyncio.Queue[tuple[float, bytes]]) -> None:
        data = b"-"
        while data:
            data = await self._loop.sock_recv(source, _CHUNK)
            await held.put((time.monotonic() + self._delay, data))

    async def _write(self, sink: socket.socket, held: asyncio.Queue[tuple[float, bytes]], direction: Direction) -> None:
        while True:
            due, data = await held.get()
            if (early := due - time.monotonic()) > 0:
                await asyncio.sleep(early)
            await self._open[direction].wait()
            if not data:
                return sink.shutdown(socket.SHUT_WR)
            budget = self._budget[direction]
            await self._loop.sock_sendall(sink, data[:budget])
            if budget is not None:
                self._budget[direction] = max(0, budget - len(data))
                if budget <= len(data):
                    raise ConnectionResetError(f"cut after the agreed bytes {direction}")
