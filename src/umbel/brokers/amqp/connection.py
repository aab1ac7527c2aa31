"""pika's connection with a shorter way for messages: frames of channels that have a receiver go straight to it.

Everything else (opening, heartbeats, TLS, closing, declarations) is pika's. Frames that are encoded already are written
to the socket by the thread that has them: waking the I/O thread for it costs more than the write. What the socket does
not take at once goes through pika, in order, as everything does over TLS, where one thread may use a socket at a time.

Of pika's internals are used: ``_on_data_available``, which takes what was read; ``_output_marshaled_frames``, which
sends frames; the transport's socket and the size of its buffer.
``tests/unit/test_amqp_connection.py`` holds that they are there.
"""

from __future__ import annotations

import logging
import ssl
import struct
import threading
from collections.abc import Sequence
from typing import Any, Protocol

import pika
from pika import frame
from pika.exceptions import StreamLostError

from umbel.brokers.amqp.frames import WITH_CONTENT, WITHOUT_CONTENT, Content, read_content

logging.getLogger("pika").setLevel(logging.CRITICAL)

_READ_AT_ONCE = 1 << 16
_WRITE_AT_ONCE = 1 << 16
_METHOD, _HEADER, _BODY = 1, 2, 3
_FRAME_END = 0xCE

_head_at = struct.Struct(">BHI").unpack_from
_method_at = struct.Struct(">I").unpack_from
_size_at = struct.Struct(">Q").unpack_from


_SelectConnection: Any = pika.SelectConnection


class Receiver(Protocol):
    """What a channel's messages and confirms go to, in the I/O thread; must not block."""

    def on_content(self, method: int, content: Content) -> None: ...

    def on_method(self, method: int, arguments: bytes) -> None: ...


class _Partial:
    """A message of which not all frames have come."""

    __slots__ = ("arguments", "body", "header", "method", "missing", "receiver")

    def __init__(self, receiver: Receiver) -> None:
        self.receiver = receiver
        self.method = 0
        self.arguments = b""
        self.header = b""
        self.body: list[bytes] = []
        self.missing = 0

    def begin(self, method: int, arguments: bytes) -> None:
        self.method, self.arguments = method, arguments

    def on_header(self, header: bytes) -> None:
        self.header, self.missing = header, _size_at(header, 4)[0]
        self.body = []
        if not self.missing:
            self._complete(b"")

    def on_body(self, piece: bytes) -> None:
        self.missing -= len(piece)
        if self.missing > 0:
            self.body.append(piece)
        elif self.body:
            self._complete(b"".join((*self.body, piece)))
        else:
            self._complete(piece)

    def _complete(self, body: bytes) -> None:
        self.receiver.on_content(self.method, read_content(self.method, self.arguments, self.header, body))


class Connection(_SelectConnection):
    """A connection with receivers by channel number. All methods but ``write`` belong to the I/O thread."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        self._partials: dict[int, _Partial] = {}
        self._unread = b""
        self._writing = threading.Lock()
        self._unwritten: list[bytes] = []
        self._pika().__init__(*args, **kwargs)

    def _pika(self) -> Any:
        """This object with pika's own methods, which have no types."""
        return super()

    def receive_with(self, channel: int, receiver: Receiver | None) -> None:
        """Give the messages and confirms of a channel to ``receiver``; None ends that."""
        if receiver is None:
            self._partials.pop(channel, None)
        else:
            self._partials[channel] = _Partial(receiver)

    def write(self, frames: bytes) -> bool:
        """Write encoded frames, in order. Any thread. False: the I/O thread has to ``flush``."""
        with self._writing:
            written = 0 if self._unwritten else self._write_now(frames)
            if written == len(frames):
                return True
            pieces = range(written, len(frames), _WRITE_AT_ONCE)
            self._unwritten += [frames[start : start + _WRITE_AT_ONCE] for start in pieces]
            return False

    def _write_now(self, frames: bytes) -> int:
        """How many bytes the socket took. Why it takes none, pika finds out when it writes the rest."""
        transport = self._transport
        sock = getattr(transport, "_sock", None)
        if sock is None or isinstance(sock, ssl.SSLSocket) or transport.get_write_buffer_size():
            return 0
        try:
            return sock.send(frames)
        except OSError:
            return 0

    def flush(self) -> None:
        """Write what ``write`` left."""
        self._output_marshaled_frames(())

    def _output_marshaled_frames(self, marshaled_frames: Sequence[bytes]) -> None:
        with self._writing:
            pieces, self._unwritten = [*self._unwritten, *marshaled_frames], []
            self._pika()._output_marshaled_frames(pieces)

    @property
    def frame_max(self) -> int:
        """Bytes of the largest frame that was agreed on."""
        return int(self.params.frame_max or 131072)

    def drop(self, error: Exception) -> None:
        """Cut the connection without a word to the server."""
        self._terminate_stream(error)

    def _proto_connection_made(self, transport: Any) -> None:
        transport._MAX_RECV_BYTES = _READ_AT_ONCE
        self._pika()._proto_connection_made(transport)
        if not isinstance(transport._sock, ssl.SSLSocket):
            self._nbio.set_reader(transport._sock.fileno(), self._on_readable)

    def _on_readable(self) -> None:
        """Take what has come. What is unusual is left to pika, which meets it by reading again."""
        transport = self._transport
        try:
            data = transport._sock.recv(_READ_AT_ONCE)
        except OSError:
            data = b""
        if data:
            self._on_data_available(data)
        else:
            transport._on_socket_readable()

    def _on_data_available(self, data_in: bytes) -> None:
        data = self._unread + data_in if self._unread else data_in
        if data[:1] == b"A":
            self._pika()._on_data_available(data)
            return
        self.bytes_received: int = self.bytes_received + len(data_in)
        position, end = 0, len(data)
        while end - position >= 8:
            kind, channel, size = _head_at(data, position)
            start = position + 7
            after = start + size + 1
            if after > end:
                break
            if data[after - 1] != _FRAME_END:
                self.drop(StreamLostError("the server sent a frame without an end"))
                return
            partial = self._partials.get(channel)
            if partial is None or not self._shortened(partial, kind, data, start, after - 1):
                self._process_frame(frame.decode_frame(data[position:after])[1])
            position = after
        self._unread = data[position:]

    @staticmethod
    def _shortened(partial: _Partial, kind: int, data: bytes, start: int, end: int) -> bool:
        """Handle one frame here, if it is one of those; whether it was."""
        if kind == _METHOD:
            method = _method_at(data, start)[0]
            if method in WITH_CONTENT:
                partial.begin(method, data[start + 4 : end])
                return True
            if method in WITHOUT_CONTENT:
                partial.receiver.on_method(method, data[start + 4 : end])
                return True
            return False
        if kind == _HEADER:
            partial.on_header(data[start:end])
            return True
        if kind == _BODY:
            partial.on_body(data[start:end])
            return True
        return False
