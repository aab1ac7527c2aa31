"""The nursery forks executors, tells how they ended, and takes them with it when it goes."""

from __future__ import annotations

import os
import select
import signal
import subprocess
import sys
import textwrap
from collections.abc import Callable

import psutil
import pytest

from processes import runs, still_running
from umbel.executors.channel import open_channel, open_executor_end
from umbel.executors.nursery import Exited, Nursery, NurseryLost, Spawned
from umbel.worker.pool import describe_exit
from workers import TESTS, wait_for


def news(nursery: Nursery, count: int) -> list[Spawned | Exited]:
    items: list[Spawned | Exited] = []
    while len(items) < count:
        assert select.select([nursery.fileno()], [], [], 10)[0], f"only {items}"
        items += nursery.news()
    return items


def echo(slot: int, fd: int) -> None:
    end = open_executor_end(fd)
    packet = end.receive()
    if packet == b"crash...":
        os.kill(os.getpid(), signal.SIGSEGV)
    if packet == b"exit....":
        os._exit(7)
    end.send(b"%d" % slot + (packet or b""))


def in_subprocess(body: Callable[[], None]) -> None:
    """The test process has threads (pytest-timeout, xdist), and a nursery must be forked without any."""
    script = textwrap.dedent(f"""
        import importlib.util, sys
        sys.path.insert(0, {str(TESTS)!r})
        spec = importlib.util.spec_from_file_location("nursery_tests", {__file__!r})
        module = importlib.util.module_from_spec(spec)
        sys.modules["nursery_tests"] = module
        spec.loader.exec_module(module)
        module.{body.__name__}()
    """)
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr


def run_three_executors() -> None:
    nursery = Nursery(echo)
    channels = {slot: open_channel() for slot in (0, 1, 2)}
    for slot, channel in channels.items():
        nursery.spawn(slot, channel.executor_fd())
    pids = {item.slot: item.pid for item in news(nursery, 3) if isinstance(item, Spawned)}
    assert set(pids) == {0, 1, 2}
    channels[0].send(b"hello...")
    channels[1].send(b"crash...")
    channels[2].send(b"exit....")
    ends = {item.pid: item.status for item in news(nursery, 3) if isinstance(item, Exited)}
    assert channels[0].receive(1) == [b"0hello..."]
    assert describe_exit(ends[pids[0]]) == "exited with code 0"
    assert describe_exit(ends[pids[1]]) == "killed by signal 11 (SIGSEGV)"
    assert describe_exit(ends[pids[2]]) == "exited with code 7"
    nursery.close()
    assert not psutil.pid_exists(nursery.pid), "it is reaped"


def close_with_running_executors() -> None:
    nursery = Nursery(echo)
    channel = open_channel()
    nursery.spawn(0, channel.executor_fd())
    (started,) = news(nursery, 1)
    assert isinstance(started, Spawned)
    executor = psutil.Process(started.pid)
    nursery.close()
    assert not still_running([executor])


def lose_the_nursery() -> None:
    nursery = Nursery(echo)
    channel = open_channel()
    nursery.spawn(0, channel.executor_fd())
    (started,) = news(nursery, 1)
    os.kill(nursery.pid, signal.SIGKILL)
    with pytest.raises(NurseryLost):
        while True:
            select.select([nursery.fileno()], [], [], 5)
            nursery.news()
    wait_for(lambda: not runs(started.pid))
    nursery.close()


def test_executors_run_and_their_ends_are_told() -> None:
    in_subprocess(run_three_executors)


def test_closing_the_nursery_ends_its_executors() -> None:
    in_subprocess(close_with_running_executors)


def test_the_death_of_the_nursery_is_noticed() -> None:
    in_subprocess(lose_the_nursery)
