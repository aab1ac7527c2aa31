"""The nursery: a single-threaded process from which executors are forked.

The supervisor forks it right after importing the application, before any thread or event loop starts. Executors are
forked from it at any time after: forks are safe, memory is shared copy-on-write, a replacement starts in
milliseconds. The nursery reaps its children and tells the supervisor how they ended; it does nothing else.

Both directions carry one small packet a message. If the supervisor dies the kernel kills nursery and executors
(``PR_SET_PDEATHSIG``); where there is no such thing, the end of the control channel does it.
"""

from __future__ import annotations

import _socket
import contextlib
import ctypes
import gc
import logging
import os
import signal
import socket
import sys
import threading
import traceback
import warnings
from array import array
from collections.abc import Callable
from typing import NoReturn

import msgspec
from msgspec import Struct

from umbel.errors import UmbelError
from umbel.executors.originals import original, set_handler
from umbel.signals import worker_before_create_process

logger = logging.getLogger("umbel.worker.nursery")

_fork, _waitpid, _read = original("os", "fork"), original("os", "waitpid"), original("os", "read")
_select = original("select", "select")
_SIGCHLD, _DEFAULT, _SIGKILL = int(signal.SIGCHLD), int(signal.SIG_DFL), int(signal.SIGKILL)

_PR_SET_PDEATHSIG = 1
_RECEIVE_SIZE = 1 << 16
_COMMAND_SIZE = 1 << 9
_MOST_FDS = 2

ExecutorBody = Callable[..., None]
"""``(slot, *fds)``: what runs in an executor, with its end of the channel and, if it has one, of the bell."""


class NurseryLost(UmbelError):
    """The nursery process died; no executor can be started any more."""


class Spawn(Struct, tag="spawn"):
    """Supervisor → nursery: fork an executor; its descriptors come along."""

    slot: int


class Spawned(Struct, tag="spawned"):
    slot: int
    pid: int


class Exited(Struct, tag="exited"):
    """Nursery → supervisor: ``status`` is that of ``waitpid(2)``."""

    pid: int
    status: int


_encoder = msgspec.msgpack.Encoder()
_command_decoder = msgspec.msgpack.Decoder(Spawn)
_news_decoder: msgspec.msgpack.Decoder[Spawned | Exited] = msgspec.msgpack.Decoder(Spawned | Exited)


_prctl = ctypes.CDLL(None, use_errno=True).prctl if sys.platform.startswith("linux") else None


def die_with_parent(number: int = _SIGKILL) -> None:
    """Have the kernel send this process a signal when the thread that forked it ends (Linux)."""
    if _prctl is not None:
        _prctl(_PR_SET_PDEATHSIG, number)


class Nursery:
    """The supervisor's handle of the nursery process."""

    def __init__(
        self, body: ExecutorBody, prepare: Callable[[], None] | None = None, *, embedded: bool = False
    ) -> None:
        """Fork it; it calls ``prepare`` before it forks any executor.

        Warns when this process has more than one thread: locks that those hold stay locked in the fork. ``embedded``:
        that is known, and accepted.
        """
        if threading.active_count() > 1 and not embedded:
            names = sorted(thread.name for thread in threading.enumerate() if thread is not threading.current_thread())
            logger.warning(
                "threads were started while the application was imported; forking is not safe with them: %s",
                ", ".join(names),
            )
        own, theirs = open_control()
        sys.stdout.flush()
        sys.stderr.flush()
        if not embedded:
            gc.collect()
            gc.freeze()
        parent = os.getpid()
        self.pid = _fork_quietly() if embedded else os.fork()
        if self.pid == 0:
            own.close()
            run_and_exit(lambda: NurseryProcess(theirs, body, parent, prepare).run())
        if not embedded:
            gc.unfreeze()
        self._attend(own, theirs)

    def _attend(self, own: socket.socket, theirs: socket.socket) -> None:
        theirs.close()
        own.setblocking(False)
        self._control = own

    def fileno(self) -> int:
        return self._control.fileno()

    def spawn(self, slot: int, *fds: int) -> None:
        """Fork an executor for ``slot`` with descriptors of its channel and its bell; news of it follow."""
        command = _encoder.encode(Spawn(slot))
        try:
            self._control.sendmsg([command], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array("i", fds))])
        except (BrokenPipeError, ConnectionResetError) as error:
            raise NurseryLost("the nursery process died") from error

    def news(self) -> list[Spawned | Exited]:
        """What has happened since the last call. Raises NurseryLost at its end."""
        news: list[Spawned | Exited] = []
        while True:
            try:
                packet = self._control.recv(_RECEIVE_SIZE)
            except BlockingIOError:
                return news
            except ConnectionResetError:
                packet = b""
            if not packet:
                if news:
                    return news
                raise NurseryLost("the nursery process died")
            news.append(_news_decoder.decode(packet))

    def kill(self, pid: int, number: int = signal.SIGKILL) -> None:
        """End an executor, at once or by another signal; the news of its exit follows."""
        try:
            os.kill(pid, number)
        except ProcessLookupError:
            logger.debug("executor %d has gone already", pid)

    def close(self) -> None:
        """End the nursery and every executor that is left, at once."""
        self._control.close()
        with contextlib.suppress(ChildProcessError):
            os.waitpid(self.pid, 0)


def _fork_quietly() -> int:
    """Fork without Python's warning about threads."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        return os.fork()


def _ignore(number: int, frame: object) -> None:
    """A handler that lets the wake-up descriptor tell of a signal."""


def open_control() -> tuple[socket.socket, socket.socket]:
    """The two ends between supervisor and nursery."""
    linux = sys.platform.startswith("linux")
    return socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET if linux else socket.SOCK_DGRAM)


def run_and_exit(body: Callable[[], None]) -> NoReturn:
    """Run ``body`` and end this forked process without running its parent's exit handlers."""
    status = 1
    try:
        body()
        status = 0
    except SystemExit as request:
        status = request.code if isinstance(request.code, int) else 1
    except BaseException:
        traceback.print_exc()
    finally:
        try:
            sys.stdout.flush()
            sys.stderr.flush()
        except (OSError, ValueError):
            pass  # whoever reads them has gone, or they were closed
        os._exit(status)


class NurseryProcess:
    """What runs in the nursery, also in one whose application is patched."""

    def __init__(
        self,
        control: socket.socket,
        body: ExecutorBody,
        parent: int,
        prepare: Callable[[], None] | None = None,
    ) -> None:
        """``control``: its descriptor is taken over."""
        self.control = _socket.socket(control.family, control.type, control.proto, control.detach())
        self.body = body
        self.parent = parent
        self.prepare = prepare
        self.children: set[int] = set()

    def run(self) -> None:
        die_with_parent()
        if os.getppid() != self.parent:
            return
        os.setpgid(0, 0)
        set_handler(signal.SIGINT, int(signal.SIG_IGN))
        set_handler(signal.SIGTERM, int(signal.SIG_IGN))
        wake_read, wake_write = os.pipe()
        os.set_blocking(wake_read, False)
        os.set_blocking(wake_write, False)
        set_handler(_SIGCHLD, _ignore)
        signal.set_wakeup_fd(wake_write, warn_on_full_buffer=False)
        if self.prepare is not None:
            self.prepare()
        try:
            while self._step(wake_read, wake_write):
                pass
        except (BrokenPipeError, ConnectionResetError):
            return  # the supervisor has gone
        finally:
            for pid in self.children:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)

    def _step(self, wake_read: int, wake_write: int) -> bool:
        readable, _, _ = _select([self.control, wake_read], [], [])
        if wake_read in readable:
            with contextlib.suppress(BlockingIOError):
                _read(wake_read, 4096)
            self._reap()
        if self.control in readable:
            data, ancillary, _, _ = self.control.recvmsg(_COMMAND_SIZE, socket.CMSG_SPACE(_MOST_FDS * 4))
            if not data:
                return False
            fds = array("i", ancillary[0][2])
            self._fork(_command_decoder.decode(data).slot, fds, (wake_read, wake_write))
        return True

    def _fork(self, slot: int, fds: array[int], inherited: tuple[int, int]) -> None:
        if worker_before_create_process.receivers:
            worker_before_create_process.send()
        parent = os.getpid()
        pid = _fork()
        if pid == 0:
            signal.set_wakeup_fd(-1)
            set_handler(_SIGCHLD, _DEFAULT)
            self.control.close()
            for number in inherited:
                os.close(number)
            die_with_parent()
            if os.getppid() != parent:
                os._exit(1)
            run_and_exit(lambda: self.body(slot, *fds))
        for fd in fds:
            os.close(fd)
        self.children.add(pid)
        self._tell(Spawned(slot, pid))

    def _reap(self) -> None:
        while True:
            try:
                pid, status = _waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                return
            if pid == 0:
                return
            self.children.discard(pid)
            self._tell(Exited(pid, status))

    def _tell(self, news: Spawned | Exited) -> None:
        self.control.send(_encoder.encode(news))
