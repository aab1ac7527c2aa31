"""A debugger inside a running task, reached over the network: Python's ``pdb`` on a socket.

    from umbel import rdb

    @app.task
    def add(x, y):
        result = x + y
        rdb.set_trace()
        return result

The task waits there and the worker's output names the port; ``telnet 127.0.0.1 6899`` (or ``nc``) is the debugger.
Whoever reaches the port can run any code in the worker, so it is bound to 127.0.0.1 unless told otherwise.
``UMBEL_RDB_HOST`` and ``UMBEL_RDB_PORT`` (or Celery's names, ``CELERY_RDB_HOST`` …) say where.
"""

from __future__ import annotations

import contextlib
import errno
import os
import pdb  # noqa: T100 - this is a debugger
import socket
import sys
import threading
from types import FrameType
from typing import IO, Any, TextIO

from umbel.errors import ConfigurationError

__all__ = ["DEFAULT_PORT", "RDB_HOST", "RDB_PORT", "Rdb", "debugger", "set_trace"]

DEFAULT_PORT = 6899


def _environment(name: str, default: str) -> str:
    return os.environ.get(f"UMBEL_{name}") or os.environ.get(f"CELERY_{name}") or default


def _port(text: str) -> int:
    if not text.isdecimal():
        raise ConfigurationError(f"UMBEL_RDB_PORT is the number of a port, not {text!r}")
    return int(text)


RDB_HOST = _environment("RDB_HOST", "127.0.0.1")
RDB_PORT = _port(_environment("RDB_PORT", str(DEFAULT_PORT)))


class Rdb(pdb.Pdb):
    """A debugger that waits for one connection; being made, it blocks until somebody connects.

    It listens at the first free port from ``port + port_skew`` on, of ``port_search_limit`` ports, and says on ``out``
    which one it is. ``continue`` and ``quit`` both let the program go on; its end, or the connection's, is the end of
    the session. Raises ConfigurationError when no port is free, OSError when ``host`` is none of this machine.
    """

    me = "Remote Debugger"

    def __init__(
        self,
        host: str = RDB_HOST,
        port: int = RDB_PORT,
        port_search_limit: int = 100,
        port_skew: int = 0,
        out: TextIO | None = None,
    ) -> None:
        self.active = True
        self.out = out
        self.host = host
        listening, self.port = self.get_avail_port(host, port, port_search_limit, port_skew)
        self.ident = f"{self.me}:{self.port}"
        with listening:
            listening.listen(1)
            self.say(f"{self.ident}: waiting: telnet {host} {self.port}")
            self._client, address = listening.accept()
        self.remote_addr = ":".join(map(str, address))
        self.say(f"{self.ident}: in session with {self.remote_addr}")
        self._handles: tuple[IO[str], IO[str]] = self._client.makefile("r"), self._client.makefile("w")
        super().__init__("tab", *self._handles, nosigint=True, readrc=False)
        self.prompt = "(umbel-rdb) "

    def get_avail_port(self, host: str, port: int, search_limit: int = 100, skew: int = 0) -> tuple[socket.socket, int]:
        """A socket bound to the first free port from ``port + skew`` on, and that port."""
        for this_port in range(port + skew, port + skew + max(search_limit, 1)):
            bound = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET, socket.SOCK_STREAM)
            try:
                bound.bind((host, this_port))
            except OSError as error:
                bound.close()
                if error.errno in _TAKEN:
                    continue
                raise
            return bound, bound.getsockname()[1]
        raise ConfigurationError(
            f"{self.me}: none of {search_limit} ports from {port + skew} on is free on {host}; "
            "UMBEL_RDB_PORT names another"
        )

    def say(self, m: str) -> None:
        """Write a line to the worker's output."""
        print(m, file=self.out or sys.stdout, flush=True)

    def __enter__(self) -> Rdb:
        return self

    def __exit__(self, *exc: object) -> None:
        self._end_session()

    def _end_session(self) -> None:
        if self.active:
            self.active = False
            for each in (*self._handles, self._client):
                with contextlib.suppress(OSError):  # the other side has gone: what it was not told does not matter
                    each.close()
            self.say(f"{self.ident}: session ended")

    def do_continue(self, arg: str) -> bool | None:
        """Let the program go on, and end the session."""
        self.set_continue()
        self._end_session()
        return True

    do_c = do_cont = do_continue

    def do_quit(self, arg: str) -> bool | None:
        """Stop debugging and let the program go on, and end the session."""
        self.set_quit()
        self._end_session()
        return True

    do_q = do_exit = do_quit

    def do_EOF(self, arg: str) -> bool | None:
        """The connection has been closed: let the program go on."""
        return self.do_continue(arg)

    def set_quit(self) -> None:
        """Stop debugging. Nothing is raised in the program: it is a task that others wait for."""
        self.set_continue()
        sys.settrace(None)

    def user_line(self, frame: FrameType) -> None:
        try:
            super().user_line(frame)
        except OSError:  # the connection broke in the middle
            self.do_continue("")


_TAKEN = frozenset({errno.EADDRINUSE, errno.EACCES})
"""Another program has the port, or only root may have it."""

_here = threading.local()


def debugger() -> Rdb:
    """The session of this thread; a new one, which waits for a connection, where there is none."""
    found: Rdb | None = getattr(_here, "rdb", None)
    if found is None or not found.active:
        found = _here.rdb = Rdb()
    return found


def set_trace(frame: FrameType | None = None) -> Any:
    """Stop in the calling line (or in ``frame``) and wait for somebody to connect."""
    return debugger().set_trace(frame or sys._getframe().f_back)  # pyright: ignore[reportPrivateUsage]
