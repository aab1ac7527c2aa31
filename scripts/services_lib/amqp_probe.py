"""Whether an AMQP 0-9-1 server lets a client in: the opening handshake, in bytes, without a client library."""

import socket
import struct

from .errors import NotReady

_START, _START_OK, _TUNE, _TUNE_OK, _OPEN, _OPEN_OK = (10, 11, 30, 31, 40, 41)


def log_in(port: int, *, user: str = "guest", password: str = "guest", timeout: float = 5.0) -> None:
    """Open a connection to the virtual host `/` on 127.0.0.1 and drop it. Raises NotReady or OSError."""
    with socket.create_connection(("127.0.0.1", port), timeout=timeout) as connection:
        connection.sendall(b"AMQP\0\0\x09\x01")
        _expect(connection, _START)
        secret = f"\0{user}\0{password}".encode()
        no_properties = struct.pack("!I", 0)
        locale = b"\x05en_US"
        _send(connection, _START_OK, no_properties + b"\x05PLAIN" + struct.pack("!I", len(secret)) + secret + locale)
        limits = _expect(connection, _TUNE)
        _send(connection, _TUNE_OK, limits)
        _send(connection, _OPEN, b"\x01/" + b"\0" + b"\0")
        _expect(connection, _OPEN_OK)


def _send(connection: socket.socket, method: int, arguments: bytes) -> None:
    payload = struct.pack("!HH", 10, method) + arguments
    connection.sendall(struct.pack("!BHI", 1, 0, len(payload)) + payload + b"\xce")


def _expect(connection: socket.socket, method: int) -> bytes:
    """The arguments of the next method frame of class `connection`, which must be `method`."""
    _, _, size = struct.unpack("!BHI", _read(connection, 7))
    payload = _read(connection, size + 1)[:-1]
    class_id, method_id = struct.unpack("!HH", payload[:4])
    if (class_id, method_id) != (10, method):
        raise NotReady(f"AMQP method {class_id}.{method_id} where 10.{method} was due")
    return payload[4:]


def _read(connection: socket.socket, size: int) -> bytes:
    data = b""
    while len(data) < size:
        chunk = connection.recv(size - len(data))
        if not chunk:
            raise NotReady("connection closed during the AMQP handshake")
        data += chunk
    return data
