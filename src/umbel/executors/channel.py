"""The channel between the supervisor and one executor: one packet a task, one packet an outcome.

On Linux it is a ``SOCK_SEQPACKET`` socket pair: the kernel keeps packets whole and hands each to exactly one reader.
The supervisor keeps a duplicate of the executor's end, so that it can read what the executor has not read yet: such
packets are taken back for certain, to be given to an idle executor or recovered from a dead one. A packet above
``INLINE_LIMIT`` travels as a memory file whose descriptor is passed along (``memfd_create(2)``, ``SCM_RIGHTS``).

Where there are no such sockets (macOS) packets are framed by length on a stream socket; nothing can be taken back.
"""

from __future__ import annotations

import _socket
import os
import socket
import struct
import sys
import threading
from array import array
from collections import deque
from typing import Protocol, runtime_checkable

from umbel.executors.originals import original

INLINE_LIMIT = 60 * 1024
BUFFER_SIZE = 8 << 20
_RECEIVE_SIZE = INLINE_LIMIT + 64
_FD_SPACE = socket.CMSG_SPACE(4)
_LENGTH = struct.Struct("<Q")
_SEQPACKET = int(getattr(socket, "SOCK_SEQPACKET", -1))

HAS_PACKETS = hasattr(socket, "SOCK_SEQPACKET") and sys.platform.startswith("linux")


class SupervisorEnd(Protocol):
    """The supervisor's side; never blocks."""

    def fileno(self) -> int: ...

    def executor_fd(self) -> int:
        """The executor's end, to be inherited by or passed to it."""
        ...

    def send(self, packet: bytes) -> bool:
        """False when the channel is full, or the executor reads no more; nothing was sent then."""
        ...

    def receive(self, limit: int) -> list[bytes]:
        """Up to ``limit`` packets that have arrived."""
        ...

    def take_back(self, limit: int) -> list[bytes]:
        """Up to ``limit`` packets, oldest first, that the executor has not read."""
        ...

    def close(self) -> None: ...


class ExecutorEnd(Protocol):
    """The executor's side; blocks."""

    def send(self, packet: bytes) -> None:
        """Any thread."""
        ...

    def receive(self) -> bytes | None:
        """The next packet; None when the supervisor has gone, or after ``finish``."""
        ...

    def finish(self) -> None:
        """Read no more: whoever waits in ``receive`` gets None. Sending goes on."""
        ...


class OpenedEnd(ExecutorEnd, Protocol):
    """An end that belongs to whoever has opened it."""

    def close(self) -> None: ...


@runtime_checkable
class PollableEnd(ExecutorEnd, Protocol):
    """An end for those who wait for it by other means than blocking."""

    def fileno(self) -> int: ...

    def send_now(self, packet: bytes) -> None:
        """Raises BlockingIOError, and nothing was sent, when it would have to wait."""
        ...

    def receive_now(self) -> bytes | None:
        """As ``receive``. Raises BlockingIOError when there is no packet yet."""
        ...


def open_channel() -> SupervisorEnd:
    """A new channel of the best kind this system has."""
    return PacketChannel() if HAS_PACKETS else StreamChannel()


def new_buffer() -> bytearray:
    """What a ``PacketEnd`` receives into."""
    return bytearray(_RECEIVE_SIZE)


def open_executor_end(fd: int, buffer: bytearray | None = None) -> OpenedEnd:
    """The executor's side of a channel, from the descriptor that ``executor_fd`` named. It blocks the whole
    process even where gevent or eventlet have patched the sockets of everybody else.

    ``buffer``: one that nobody else uses, where there is one already.
    """
    end = _socket.socket(fileno=fd)
    if end.type == _SEQPACKET:
        end.setblocking(True)
        return PacketEnd(end, new_buffer() if buffer is None else buffer)
    stream: socket.socket = original("socket", "socket")(fileno=end.detach())
    stream.setblocking(True)
    return StreamEnd(stream)


# -- packets -------------------------------------------------------------------------------------------------


def _send_packet(end: _socket.socket, packet: bytes, flags: int = 0) -> None:
    if len(packet) <= INLINE_LIMIT:
        end.send(packet, flags)
        return
    memory = os.memfd_create("umbel-packet", os.MFD_CLOEXEC)
    try:
        view = memoryview(packet)
        while view:
            view = view[os.write(memory, view) :]
        end.sendmsg([b""], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array("i", [memory]))], flags)
    finally:
        os.close(memory)


def _receive_packet(end: _socket.socket, buffer: memoryview, buffers: list[memoryview], flags: int = 0) -> bytes | None:
    """One packet, or None at the end of the channel. Raises BlockingIOError when there is none yet.

    ``buffers``: a list of ``buffer`` alone.
    """
    size, ancillary, _, _ = end.recvmsg_into(buffers, _FD_SPACE, flags)
    if ancillary:
        (memory,) = array("i", ancillary[0][2])
        with open(memory, "rb") as file:
            file.seek(0)
            return file.read()
    return bytes(buffer[:size]) if size else None


class PacketChannel:
    """The supervisor's side of a packet channel, with take-back."""

    def __init__(self) -> None:
        self._own, self._theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        for end in (self._own, self._theirs):
            end.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, BUFFER_SIZE)
        self._own.setblocking(False)
        self._buffer = memoryview(bytearray(_RECEIVE_SIZE))
        self._buffers = [self._buffer]

    def fileno(self) -> int:
        return self._own.fileno()

    def executor_fd(self) -> int:
        return self._theirs.fileno()

    def send(self, packet: bytes) -> bool:
        try:
            _send_packet(self._own, packet)
        except (BlockingIOError, BrokenPipeError):
            return False
        return True

    def receive(self, limit: int) -> list[bytes]:
        return self._drain(self._own, limit, 0)

    def take_back(self, limit: int) -> list[bytes]:
        return self._drain(self._theirs, limit, socket.MSG_DONTWAIT)

    def _drain(self, end: socket.socket, limit: int, flags: int) -> list[bytes]:
        packets: list[bytes] = []
        while len(packets) < limit:
            try:
                packet = _receive_packet(end, self._buffer, self._buffers, flags)
            except BlockingIOError:
                break
            if packet is None:
                break
            packets.append(packet)
        return packets

    def close(self) -> None:
        self._own.close()
        self._theirs.close()


class PacketEnd:
    """The executor's side of a packet channel."""

    def __init__(self, end: _socket.socket, buffer: bytearray) -> None:
        self._end = end
        self._buffer = memoryview(buffer)
        self._buffers = [self._buffer]

    def send(self, packet: bytes) -> None:
        _send_packet(self._end, packet)

    def receive(self) -> bytes | None:
        return _receive_packet(self._end, self._buffer, self._buffers)

    def fileno(self) -> int:
        return self._end.fileno()

    def send_now(self, packet: bytes) -> None:
        _send_packet(self._end, packet, socket.MSG_DONTWAIT)

    def receive_now(self) -> bytes | None:
        return _receive_packet(self._end, self._buffer, self._buffers, socket.MSG_DONTWAIT)

    def finish(self) -> None:
        self._end.shutdown(socket.SHUT_RD)

    def close(self) -> None:
        self._end.close()


# -- streams -------------------------------------------------------------------------------------------------


class StreamChannel:
    """The supervisor's side of a framed stream. What was sent counts as read."""

    def __init__(self) -> None:
        self._own, self._theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
        self._own.setblocking(False)
        self._received = bytearray()
        self._unsent: deque[memoryview] = deque()

    def fileno(self) -> int:
        return self._own.fileno()

    def executor_fd(self) -> int:
        return self._theirs.fileno()

    def send(self, packet: bytes) -> bool:
        self._flush()
        if self._unsent:
            return False
        self._unsent.append(memoryview(_LENGTH.pack(len(packet)) + packet))
        self._flush()
        return True

    def _flush(self) -> None:
        while self._unsent:
            try:
                sent = self._own.send(self._unsent[0])
            except BlockingIOError:
                return
            rest = self._unsent.popleft()[sent:]
            if rest:
                self._unsent.appendleft(rest)

    def receive(self, limit: int) -> list[bytes]:
        self._flush()
        while True:
            try:
                data = self._own.recv(1 << 18)
            except BlockingIOError:
                break
            if not data:
                break
            self._received += data
        packets: list[bytes] = []
        while len(packets) < limit and len(self._received) >= _LENGTH.size:
            (size,) = _LENGTH.unpack_from(self._received)
            if len(self._received) < _LENGTH.size + size:
                break
            packets.append(bytes(self._received[_LENGTH.size : _LENGTH.size + size]))
            del self._received[: _LENGTH.size + size]
        return packets

    def take_back(self, limit: int) -> list[bytes]:
        return []

    def close(self) -> None:
        self._own.close()
        self._theirs.close()


class StreamEnd:
    """The executor's side of a framed stream."""

    def __init__(self, end: socket.socket) -> None:
        self._end = end
        self._file = end.makefile("rb")
        self._sending = threading.Lock()

    def send(self, packet: bytes) -> None:
        with self._sending:
            self._end.sendall(_LENGTH.pack(len(packet)) + packet)

    def receive(self) -> bytes | None:
        head = self._file.read(_LENGTH.size)
        if len(head) < _LENGTH.size:
            return None
        (size,) = _LENGTH.unpack(head)
        body = self._file.read(size)
        return body if len(body) == size else None

    def finish(self) -> None:
        self._end.shutdown(socket.SHUT_RD)

    def close(self) -> None:
        self._file.close()
        self._end.close()


# -- several lanes -------------------------------------------------------------------------------------------


class SharedEnd:
    """One end for several threads, or greenlets where locks are theirs. One of them waits for the next packet, the
    others for their turn: the kernel would wake all of them for each packet."""

    def __init__(self, end: ExecutorEnd) -> None:
        self._end = end
        self._turn = threading.Lock()

    def send(self, packet: bytes) -> None:
        self._end.send(packet)

    def receive(self) -> bytes | None:
        with self._turn:
            return self._end.receive()

    def finish(self) -> None:
        self._end.finish()
