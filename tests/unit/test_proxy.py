"""The failure proxy itself: every fault it promises is seen by a client, and heals."""

import socket
import threading
import time
from collections.abc import Iterator

import pytest

from conformance.waiting import assert_prompt, timed
from proxy import TCPProxy


class EchoServer:
    """Sends back what it gets, and remembers it."""

    def __init__(self) -> None:
        self.received = b""
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        self._thread = threading.Thread(target=self._accept, daemon=True)
        self._thread.start()

    def close(self) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self._thread.join()

    def _accept(self) -> None:
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            threading.Thread(target=self._echo, args=[connection], daemon=True).start()

    def _echo(self, connection: socket.socket) -> None:
        with connection:
            try:
                while data := connection.recv(65536):
                    self.received += data
                    connection.sendall(data)
            except ConnectionError:
                return


@pytest.fixture
def server() -> Iterator[EchoServer]:
    echo = EchoServer()
    yield echo
    echo.close()


@pytest.fixture
def proxy(server: EchoServer) -> Iterator[TCPProxy]:
    with TCPProxy("127.0.0.1", server.port) as running:
        yield running


def connect(proxy: TCPProxy, timeout: float = 5.0) -> socket.socket:
    return socket.create_connection(("127.0.0.1", proxy.port), timeout=timeout)


def receive(connection: socket.socket, size: int) -> bytes:
    data = b""
    while len(data) < size:
        chunk = connection.recv(size - len(data))
        assert chunk, f"closed after {len(data)} of {size} bytes"
        data += chunk
    return data


def test_passes_bytes_both_ways(proxy: TCPProxy) -> None:
    payload = bytes(range(256)) * 4096
    with connect(proxy) as client:
        sender = threading.Thread(target=client.sendall, args=[payload])
        sender.start()
        assert receive(client, len(payload)) == payload
        sender.join()
        assert proxy.connections == 1
        client.shutdown(socket.SHUT_WR)
        assert client.recv(1) == b""


def test_cut_resets_open_connections_and_accepts_new_ones(proxy: TCPProxy) -> None:
    with connect(proxy) as first:
        first.sendall(b"a")
        assert receive(first, 1) == b"a"
        proxy.cut()
        with pytest.raises(ConnectionResetError):
            first.recv(1)
    assert proxy.connections == 0
    with connect(proxy) as second:
        second.sendall(b"b")
        assert receive(second, 1) == b"b"
    assert proxy.accepted == 2


def test_refuse_keeps_open_connections_until_healed_on_the_same_port(proxy: TCPProxy) -> None:
    port = proxy.port
    with connect(proxy) as old:
        old.sendall(b"a")
        assert receive(old, 1) == b"a"
        proxy.refuse()
        with pytest.raises(ConnectionRefusedError):
            connect(proxy)
        old.sendall(b"b")
        assert receive(old, 1) == b"b"
    proxy.heal()
    assert proxy.port == port
    with connect(proxy) as new:
        new.sendall(b"c")
        assert receive(new, 1) == b"c"


def test_delay_adds_latency_but_takes_no_throughput(proxy: TCPProxy) -> None:
    payload = b"x" * 4_000_000
    with connect(proxy, timeout=20) as client:
        proxy.delay(0.2)
        began = time.monotonic()
        sender = threading.Thread(target=client.sendall, args=[payload])
        sender.start()
        assert receive(client, len(payload)) == payload
        sender.join()
        assert 0.4 <= time.monotonic() - began < 3.0
        proxy.heal()

        def echo() -> None:
            client.sendall(b"y")
            receive(client, 1)

        assert_prompt(0.2, lambda: timed(echo))


def test_blackhole_holds_back_and_delivers_when_healed(proxy: TCPProxy) -> None:
    with connect(proxy) as client:
        client.sendall(b"a")
        assert receive(client, 1) == b"a"
        proxy.blackhole()
        client.sendall(b"b")
        client.settimeout(0.3)
        with pytest.raises(TimeoutError):
            client.recv(1)
        with connect(proxy, timeout=0.3) as hanging, pytest.raises(TimeoutError):
            hanging.sendall(b"c")
            hanging.recv(1)
        proxy.heal()
        client.settimeout(5)
        assert receive(client, 1) == b"b"


def test_blackhole_of_answers_lets_requests_through(proxy: TCPProxy, server: EchoServer) -> None:
    with connect(proxy) as client:
        proxy.blackhole("down")
        client.sendall(b"request")
        client.settimeout(0.3)
        with pytest.raises(TimeoutError):
            client.recv(1)
        assert server.received == b"request"


def test_cut_after_lets_no_more_bytes_through(proxy: TCPProxy, server: EchoServer) -> None:
    with connect(proxy) as client:
        proxy.blackhole("down")
        proxy.cut_after(1000)
        client.sendall(b"z" * 5000)
        with pytest.raises(ConnectionResetError):
            client.recv(1)
    assert len(server.received) <= 1000
    proxy.heal()
    with connect(proxy) as client:
        client.sendall(b"z" * 5000)
        assert receive(client, 5000) == b"z" * 5000


def test_an_unreachable_server_resets_the_client() -> None:
    unused = socket.create_server(("127.0.0.1", 0))
    port: int = unused.getsockname()[1]
    unused.close()
    with TCPProxy("127.0.0.1", port) as proxy, pytest.raises(ConnectionResetError), connect(proxy) as client:
        client.recv(1)


def test_urls_lead_through_the_proxy(server: EchoServer) -> None:
    with TCPProxy.to(f"redis://127.0.0.1:{server.port}/3") as proxy:
        assert proxy.target == ("127.0.0.1", server.port)
        assert proxy.url("amqp://guest:guest@127.0.0.1:5672//") == f"amqp://guest:guest@127.0.0.1:{proxy.port}//"
        assert proxy.url("redis://localhost:6379/3?x=1") == f"redis://127.0.0.1:{proxy.port}/3?x=1"


def test_stop_frees_the_port(server: EchoServer) -> None:
    proxy = TCPProxy("127.0.0.1", server.port).start()
    port = proxy.port
    proxy.stop()
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", port), timeout=1)
