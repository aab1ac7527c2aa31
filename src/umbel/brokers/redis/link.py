"""One connection to Redis, and the pool of them.

A :class:`Link` sends packed commands and reads replies, each read with a deadline; whatever goes wrong on the way
closes it. :class:`Links` hands them out. This is where errors of sockets and of Redis become Umbel's, once.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import select
import socket
import time
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from typing import Any, cast

from msgspec import Struct

from umbel.brokers.polling import new_poll
from umbel.brokers.redis.server import Server
from umbel.errors import BrokerError, MissingExtra, OperationalError, UmbelError

try:
    import hiredis
    from hiredis import ProtocolError, PushNotification, Reader, ReplyError
except ImportError as error:
    raise MissingExtra("Redis", "redis") from error

__all__ = ["NOTHING", "Link", "Links", "PushNotification", "Script", "pack"]

_pack: Callable[[Any], bytes] = cast("Any", hiredis).pack_command

NOTHING: Any = object()
"""What a read returns when there is no whole reply yet."""

ANSWER_TIMEOUT = 30.0
"""Seconds after which a command that does not block is given up."""

_SPIN = 80e-6 if len(os.sched_getaffinity(0) if hasattr(os, "sched_getaffinity") else range(2)) > 1 else 0.0
"""Seconds for which an answer is looked for before the thread sleeps: Redis answers most calls in less time than a
sleep and a wake-up take. With one processor the server could not run meanwhile."""

_MOST_CALM = 64
"""Reads that sleep at once after looking was in vain: 1, 2, 4 … up to so many."""

_LONGEST_POLL = 86400.0
_NOT_YET = frozenset({"SSLWantReadError", "SSLWantWriteError"})

_BUFFER = 1 << 16
_IDLE = 1.0
_PASSING = frozenset(
    {
        "LOADING",
        "READONLY",
        "MASTERDOWN",
        "CLUSTERDOWN",
        "TRYAGAIN",
        "BUSY",
        "NOREPLICAS",
        "UNBLOCKED",
        "MISCONF",
        "NOSCRIPT",
    }
)
"""First words of refusals that pass: the server starts, fails over, runs a long script, cannot write its disk, or
forgets a script that it was just told."""


class Script:
    """A Lua script that runs atomically in the server, called by its hash."""

    def __init__(self, text: str) -> None:
        self.text = text
        self.sha = hashlib.sha1(text.encode(), usedforsecurity=False).hexdigest().encode()

    def pack(self, arguments: Sequence[Any]) -> bytes:
        """The command that calls it. The script sees ``arguments`` as ``ARGV``."""
        return _pack((b"EVALSHA", self.sha, b"0", *arguments))


class Call(Struct):
    """A call of a script."""

    script: Script
    arguments: Sequence[Any]

    def pack(self) -> bytes:
        """As it goes over the wire."""
        return self.script.pack(self.arguments)


def pack(*command: Any) -> bytes:
    """A command as it goes over the wire."""
    return _pack(command)


def raise_refusal(reply: Any) -> None:
    """Raise what an error reply means: OperationalError when it passes, BrokerError otherwise."""
    text = str(reply)
    kind = OperationalError if text.partition(" ")[0] in _PASSING else BrokerError
    raise kind(f"Redis answered: {text}")


class Link:
    """A connection. Not safe for threads; after an OperationalError it is ``closed``."""

    def __init__(self, server: Server, timeout: float) -> None:
        """Connect within ``timeout`` seconds. Raises OperationalError, or BrokerError when the login is refused."""
        self._server = server
        self._reader: Any = Reader(notEnoughData=NOTHING)
        self._buffer = bytearray(_BUFFER)
        self._view = memoryview(self._buffer)
        self.closed = False
        self.used = time.monotonic()
        self.id = 0
        try:
            self._socket = server.connect(timeout)
        except OSError as error:
            self.closed = True
            raise OperationalError(f"cannot connect to {server.shown}: {error}") from error
        self._socket.setblocking(False)
        self._readable = new_poll()
        self._readable.register(self._socket, select.POLLIN)
        self._calm = self._in_vain = 0
        try:
            commands = server.handshake()
            self.send(b"".join(_pack(command) for command in commands))
            replies = [self.read(timeout) for _ in commands]
            for reply in replies:
                if isinstance(reply, ReplyError):
                    raise_refusal(reply)
        except UmbelError as error:
            self.close()
            broken = isinstance(error.__cause__, OSError) and not isinstance(error.__cause__, TimeoutError)
            if server.tls is not None and broken:
                raise OperationalError(f"{error} (does it accept the client's certificate?)") from error
            raise
        self.id = int(replies[0][b"id"])

    def fileno(self) -> int:
        return self._socket.fileno()

    def send(self, data: bytes, timeout: float = ANSWER_TIMEOUT) -> None:
        """Write ``data``. Raises OperationalError when that is not done within ``timeout`` seconds."""
        written = self._write(data)
        if written < len(data):
            self._send_rest(memoryview(data)[written:], timeout)

    def _send_rest(self, rest: memoryview, timeout: float) -> None:
        deadline = time.monotonic() + timeout
        writable = new_poll()
        writable.register(self._socket, select.POLLOUT)
        while rest:
            left = deadline - time.monotonic()
            if left <= 0:
                raise self._broken(TimeoutError(f"not taken within {timeout:g} s"))
            writable.poll(min(left, _LONGEST_POLL) * 1000)
            rest = rest[self._write(rest) :]

    def _write(self, data: bytes | memoryview) -> int:
        """How many bytes of ``data`` could be written without waiting."""
        try:
            return self._socket.send(data)
        except BlockingIOError:
            return 0
        except OSError as error:
            if type(error).__name__ in _NOT_YET:
                return 0
            raise self._broken(error) from error

    def read(self, timeout: float = ANSWER_TIMEOUT, eager: bool = False) -> Any:
        """The next reply; error replies are returned. Raises OperationalError when it is not there in time.

        ``eager``: somebody waits for nothing but this, so the processor may be kept for it a little.
        """
        reply = self._reader.gets(False)
        if reply is NOTHING and eager:
            reply = self._spin()
        if reply is NOTHING:
            reply = self.poll(timeout)
        if reply is NOTHING:
            raise self._broken(TimeoutError(f"no answer within {timeout:g} s"))
        return reply

    def _spin(self) -> Any:
        """Look again and again for an answer that is likely to come before a sleep and a wake-up were over."""
        if self._calm:
            self._calm -= 1
            return NOTHING
        reply = self._receive()
        if reply is NOTHING and _SPIN:
            end = time.perf_counter() + _SPIN
            while reply is NOTHING and time.perf_counter() < end:
                reply = self._receive()
            self._in_vain = 0 if reply is not NOTHING else min(_MOST_CALM, 2 * self._in_vain or 1)
            self._calm = self._in_vain
        return reply

    def poll(self, timeout: float) -> Any:
        """The next reply, or NOTHING when there is no whole one within ``timeout`` seconds (0: look once)."""
        reply = self._reader.gets(False)
        if reply is NOTHING:
            reply = self._receive()
        if reply is not NOTHING or timeout <= 0:
            return reply
        deadline = time.monotonic() + timeout
        while reply is NOTHING and (rest := deadline - time.monotonic()) > 0:
            self._readable.poll(min(rest, _LONGEST_POLL) * 1000 + 0.5)
            reply = self._receive()
        return reply

    def arrived(self) -> list[Any]:
        """The replies that are there, after one look."""
        replies: list[Any] = []
        reply = self.poll(0)
        while reply is not NOTHING:
            replies.append(reply)
            reply = self._reader.gets(False)
        return replies

    def _receive(self) -> Any:
        """The next reply of what has arrived, or NOTHING."""
        try:
            count = self._socket.recv_into(self._buffer)
        except BlockingIOError:
            return NOTHING
        except OSError as error:
            if type(error).__name__ in _NOT_YET:
                return NOTHING
            raise self._broken(error) from error
        if not count:
            raise self._broken(ConnectionResetError("the server closed the connection"))
        try:
            self._reader.feed(self._view[:count])
            return self._reader.gets(False)
        except ProtocolError as error:
            raise self._broken(error) from error

    def call(self, command: bytes, timeout: float = ANSWER_TIMEOUT) -> Any:
        """Send one packed command and return its reply. Raises OperationalError or BrokerError."""
        self.send(command, timeout)
        reply = self.read(timeout, eager=True)
        if isinstance(reply, ReplyError):
            raise_refusal(reply)
        return reply

    def run(
        self, script: Script, arguments: Sequence[Any], timeout: float = ANSWER_TIMEOUT, before: Sequence[bytes] = ()
    ) -> Any:
        """Run a script. Raises as ``call``.

        ``before`` are other commands to send first; their answers must be no refusals.
        """
        call = Call(script, arguments)
        command = call.pack()
        self.send(b"".join((*before, command)) if before else command, timeout)
        return self.answer(call, timeout, len(before))

    def answer(self, call: Call, timeout: float = ANSWER_TIMEOUT, before: int = 0) -> Any:
        """The answer to a call that was sent after ``before`` other commands; it is repeated when the server does not
        know the script. Raises as ``call``."""
        replies = [self.read(timeout) for _ in range(before + 1)]
        if is_unknown_script(replies[-1]):
            self.load([call.script])
            self.send(call.pack(), timeout)
            replies[-1] = self.read(timeout)
        for reply in replies:
            if isinstance(reply, ReplyError):
                raise_refusal(reply)
        return replies[-1]

    def load(self, scripts: Iterable[Script]) -> None:
        """Have the server know these scripts. Raises as ``call``."""
        for script in scripts:
            self.call(_pack((b"SCRIPT", b"LOAD", script.text)))

    def is_stale(self) -> bool:
        """Whether an idle connection was closed by the server, or has something in it that nobody asked for."""
        return bool(self._readable.poll(0))

    def _broken(self, error: Exception) -> OperationalError:
        self.close()
        return OperationalError(f"lost the connection to {self._server.shown}: {error}")

    def hang_up(self) -> None:
        """End the connection under a thread that reads from it, which then gets an OperationalError; any thread."""
        with contextlib.suppress(OSError):
            socket.socket.shutdown(self._socket, socket.SHUT_RDWR)

    def close(self) -> None:
        """Close the socket; sends nothing, so that a forked child may do it too. Idempotent."""
        self.closed = True
        with contextlib.suppress(AttributeError):
            self._socket.close()


def is_unknown_script(reply: Any) -> bool:
    """Whether a call was not run, because the server has forgotten the script, or never knew it."""
    return isinstance(reply, ReplyError) and str(reply).startswith("NOSCRIPT")


class Links:
    """The connections of one process to one server: taken for a call, and given back."""

    def __init__(self, server: Server) -> None:
        self.server = server
        self._idle: deque[tuple[int, Link]] = deque()
        self._generation = 0

    def take(self, timeout: float | None = None) -> Link:
        """An idle connection, or a new one made within ``timeout`` seconds. Raises OperationalError, BrokerError."""
        while self._idle:
            try:
                _, link = self._idle.pop()
            except IndexError:
                break
            if time.monotonic() - link.used < _IDLE or not link.is_stale():
                return link
            link.close()
        limit = self.server.connect_timeout
        return Link(self.server, limit if timeout is None else max(0.001, min(limit, timeout)))

    def give(self, link: Link, generation: int | None = None) -> None:
        """Take back a connection; a closed one is dropped, and with it all that have been idle."""
        if link.closed:
            self._drop_idle()
        elif generation is not None and generation != self._generation:
            link.close()
        else:
            link.used = time.monotonic()
            self._idle.append((self._generation, link))

    @property
    def generation(self) -> int:
        """Changes with every ``close``; what was taken before is not kept after."""
        return self._generation

    def run(
        self,
        script: Script,
        arguments: Sequence[Any],
        timeout: float = ANSWER_TIMEOUT,
        before: Sequence[bytes] = (),
    ) -> Any:
        """Run a script on any connection, after the commands ``before``. Raises OperationalError, BrokerError."""
        generation = self._generation
        link = self.take(timeout)
        try:
            return link.run(script, arguments, timeout, before)
        except BaseException as error:
            if not isinstance(error, UmbelError):
                link.close()
            raise
        finally:
            self.give(link, generation)

    def call(self, *command: Any, timeout: float = ANSWER_TIMEOUT) -> Any:
        """Run a command on any connection. Raises OperationalError, BrokerError."""
        return self.call_all([command], timeout)[0]

    def call_all(self, commands: Sequence[Sequence[Any]], timeout: float = ANSWER_TIMEOUT) -> list[Any]:
        """Run commands in one write. Raises OperationalError, or BrokerError for the first one refused."""
        generation = self._generation
        link = self.take(timeout)
        try:
            link.send(b"".join([_pack(tuple(command)) for command in commands]), timeout)
            replies = [link.read(timeout, eager=True) for _ in commands]
        except BaseException as error:
            if not isinstance(error, UmbelError):
                link.close()
            raise
        finally:
            self.give(link, generation)
        for reply in replies:
            if isinstance(reply, ReplyError):
                raise_refusal(reply)
        return replies

    def _drop_idle(self) -> None:
        while self._idle:
            try:
                self._idle.pop()[1].close()
            except IndexError:
                return

    def close(self) -> None:
        """Close all connections, those in use when they come back. May be used again after."""
        self._generation += 1
        self._drop_idle()

    def forget(self) -> None:
        """In a forked child: close the descriptors, which the parent does not notice."""
        self._generation += 1
        self._drop_idle()
