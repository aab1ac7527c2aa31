"""Breaking connections in the middle of a call, and forking in the middle of everything."""

from __future__ import annotations

import faulthandler
import os
import signal
import traceback
from collections.abc import Callable
from pathlib import Path

from conformance.messages import persist
from conformance.waiting import Running
from proxy import Direction, TCPProxy
from umbel.errors import OperationalError
from workers import wait_for


def cut_during(action: Callable[[], object], proxy: TCPProxy, direction: Direction, size: int) -> None:
    """Call ``action``, cut the connection when ``size`` bytes went in that direction, then let it be reached again.

    The call is repeated if it raised OperationalError. Fails if the connection was never cut.
    """
    accepted, connections = proxy.accepted, proxy.connections
    proxy.cut_after(size, direction)
    running = Running(action)

    wait_for(lambda: proxy.accepted > accepted or proxy.connections < connections)
    proxy.heal()
    try:
        running.result()
    except OperationalError:
        persist(action)


def in_fork(action: Callable[[], None]) -> int:
    """Run ``action`` in a forked child; its exit status: 0 when nothing was raised; a child that hangs
    for 30 s shows where, and dies."""
    pid = os.fork()
    if pid == 0:
        status = 1
        try:
            signal.alarm(30)
            signal.signal(signal.SIGALRM, signal.SIG_DFL)
            faulthandler.dump_traceback_later(25)
            action()
            status = 0
        except BaseException:
            traceback.print_exc()
        finally:
            os._exit(status)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def open_descriptors() -> int:
    """How many file descriptors this process has."""
    return len(list(Path("/proc/self/fd").iterdir()))
