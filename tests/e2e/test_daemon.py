"""A worker as a service: in the background, with a pid file, as another user, by another Python."""

from __future__ import annotations

import os
import re
import signal
import stat
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from processes import runs
from umbel.cli.daemon import drop_privileges
from umbel.pidfile import NodeRunning, Pidfile, holder
from workers import TESTS, Fleet, wait_for


@pytest.fixture
def background(tmp_path: Path) -> Iterator[Path]:
    """A directory for pid files; what they name is killed at the end."""
    yield tmp_path
    for path in tmp_path.glob("*.pid"):
        if pid := holder(path):
            os.kill(pid, signal.SIGKILL)


def umbel(nodes: Fleet, *arguments: str, app: str = "apps.ledger") -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "umbel", "-A", app, *arguments],
        cwd=TESTS,
        env=os.environ | nodes.environment,
        capture_output=True,
        text=True,
        timeout=60,
    )


def test_detach_returns_once_the_worker_has_begun(nodes: Fleet, background: Path) -> None:
    pidfile, log = background / "w1.pid", background / "w1.log"
    options = ("-c", "1", "-n", "w1@%h", "--pidfile", f"{background}/%n.pid", "--logfile", f"{background}/%n.log")
    done = umbel(nodes, "worker", "--detach", *options)
    assert done.returncode == 0, done.stderr
    pid = holder(pidfile)
    assert pid is not None and pidfile.read_text() == f"{pid}\n"
    process = psutil.Process(pid)
    assert os.getsid(pid) != os.getsid(0) and process.terminal() is None
    assert process.ppid() != os.getpid() and process.cwd() == str(TESTS)
    assert {os.readlink(f"/proc/{pid}/fd/{fd}") for fd in (1, 2)} == {str(log)}
    assert os.readlink(f"/proc/{pid}/fd/0") == os.devnull
    wait_for(lambda: "umbel.worker: ready" in log.read_text(), 20)
    assert umbel(nodes, "call", "apps.ledger.add", "2", "2", "--timeout", "20").stdout == "4\n"

    second = umbel(nodes, "worker", "-c", "1", *options)
    assert second.returncode == 1
    assert f"the node runs already, as process {pid} (pid file {pidfile})" in second.stderr

    os.kill(pid, signal.SIGTERM)
    wait_for(lambda: not runs(pid), 20)
    assert not pidfile.exists()


def test_what_keeps_a_detached_worker_from_starting_is_shown(nodes: Fleet) -> None:
    done = umbel(nodes, "worker", "--detach", app="no_such_module")
    assert done.returncode == 1
    assert "no_such_module" in done.stderr


def test_a_stale_pid_file_is_replaced(nodes: Fleet, background: Path) -> None:
    worker = nodes.start("-c", "1", "--pidfile", str(background / "w.pid"))
    worker.kill()
    assert (background / "w.pid").read_text() == f"{worker.process.pid}\n"
    again = nodes.start("-c", "1", "--pidfile", str(background / "w.pid"))
    assert holder(background / "w.pid") == again.process.pid
    again.stop()
    assert not (background / "w.pid").exists()


def test_a_pid_file_is_replaced_whatever_process_has_its_number_now(tmp_path: Path) -> None:
    path = tmp_path / "w.pid"
    path.write_text(f"{os.getppid()}\n")
    long_ago = psutil.Process(os.getppid()).create_time() - 1000
    os.utime(path, (long_ago, long_ago))
    assert holder(path) is None
    mine = Pidfile(path)
    mine.acquire()
    assert path.read_text() == f"{os.getpid()}\n"
    mine.release()
    assert not path.exists() and not list(tmp_path.iterdir())


def test_a_pid_file_of_a_live_process_that_does_not_lock_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "w.pid"
    path.write_text(f"{os.getppid()}\n")
    with pytest.raises(NodeRunning, match=rf"runs already, as process {os.getppid()} \(pid file .*w.pid\)"):
        Pidfile(path).acquire()
    assert path.read_text() == f"{os.getppid()}\n"


@pytest.mark.parametrize("text", ["", "rubbish\n", "999999999\n", "{own}\n"])
def test_a_pid_file_that_names_nobody_else_is_replaced(tmp_path: Path, text: str) -> None:
    path = tmp_path / "w.pid"
    path.write_text(text.format(own=os.getpid()))
    mine = Pidfile(path)
    mine.acquire()
    assert path.read_text() == f"{os.getpid()}\n"
    mine.release()


def test_of_many_that_start_at_once_one_gets_the_pid_file(tmp_path: Path) -> None:
    program = (
        "import sys\nfrom umbel.pidfile import NodeRunning, Pidfile\n"
        "try:\n    Pidfile(sys.argv[1]).acquire()\nexcept NodeRunning:\n    print('refused')\n"
        "else:\n    print('got it', flush=True); sys.stdin.read()\n"
    )
    (tmp_path / "w.pid").write_text("999999999\n")
    started = [
        subprocess.Popen(
            [sys.executable, "-c", program, str(tmp_path / "w.pid")],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        for _ in range(6)
    ]
    words = sorted(process.stdout.readline().strip() for process in started if process.stdout)
    for process in started:
        process.communicate()
    assert words == ["got it"] + ["refused"] * 5


as_root = pytest.mark.skipif(os.getuid() != 0, reason="only root can become another user")


@as_root
@pytest.mark.parametrize(
    ("uid", "gid", "expected"),
    [
        ("nobody", None, (65534, 65534, [65534])),
        ("65534", "root", (65534, 0, [0])),
        (None, "nogroup", (0, 65534, None)),
    ],
)
def test_privileges_are_dropped_for_good(
    uid: str | None, gid: str | None, expected: tuple[int, int, list[int] | None]
) -> None:
    read, write = os.pipe()
    pid = os.fork()
    if pid == 0:
        drop_privileges(uid, gid)
        os.write(write, repr((os.getresuid(), os.getresgid(), os.getgroups())).encode())
        os._exit(0)
    os.waitpid(pid, 0)
    uids, gids, groups = eval(os.read(read, 1000))
    os.close(read)
    os.close(write)
    assert (set(uids), set(gids)) == ({expected[0]}, {expected[1]})
    assert expected[2] is None or groups == expected[2]


@as_root
def test_gid_and_umask_hold_for_executors_and_files(nodes: Fleet, tmp_path: Path) -> None:
    log = tmp_path / "log"
    worker = nodes.start(
        "-c", "1", "--uid", "root", "--gid", "nogroup", "--umask", "077", "--logfile", str(log), ready=False
    )
    wait_for(lambda: log.exists() and "ready" in log.read_text(), 20, worker.output())
    wait_for(worker.executors)
    assert all(set(process.gids()) == {65534} for process in worker.tree())
    assert stat.S_IMODE(log.stat().st_mode) == 0o600 and log.stat().st_gid == 65534
    assert worker.stop() == 0


@pytest.mark.parametrize(
    ("options", "error"),
    [
        (("--uid", "no-such-user"), "there is no user no-such-user"),
        (("--gid", "no-such-group"), "there is no group no-such-group"),
        (("--umask", "9"), "the umask must be octal, such as 022, not '9'"),
        (("--executable", "/no/such/python"), "--executable /no/such/python: No such file or directory"),
        (("--pidfile", "/no/such/directory/pid"), "No such file or directory"),
        (("--health-port", "http"), "must be PORT or HOST:PORT, not 'http'"),
        (("-B",), "Umbel has no scheduler yet"),
    ],
)
def test_what_cannot_be_done_is_one_line(nodes: Fleet, options: tuple[str, ...], error: str) -> None:
    done = umbel(nodes, "worker", "--quiet", *options)
    assert done.returncode == 1
    assert error in done.stderr and len(done.stderr.splitlines()) == 1, done.stderr


def test_celerys_options_are_taken(nodes: Fleet) -> None:
    worker = nodes.start(
        *("-c", "1", "-O", "fair", "-S", "state.db", "--without-gossip", "--without-mingle", "--without-heartbeat"),
        *("--heartbeat-interval", "2", "-E", "--disable-prefetch", "--discard", "-X", "other", "-l", "fatal"),
        *("--executable", sys.executable),
        ready=False,
    )
    wait_for(lambda: len(worker.executors()) == 1, 20)
    assert umbel(nodes, "call", "apps.ledger.add", "2", "2", "--timeout", "20").stdout == "4\n"
    assert worker.stop() == 0


def test_names_of_nodes_and_files(nodes: Fleet, background: Path) -> None:
    worker = nodes.start(
        *("-c", "2", "-n", "a%i%I.%n@host.example.org", "--pidfile", f"{background}/%p-%h-%d.pid"),
        *("--logfile", f"{background}/%n%I.log"),
        ready=False,
    )
    short = os.uname().nodename.partition(".")[0]
    log = background / f"a0.{short}.log"
    wait_for(lambda: log.exists() and "ready" in log.read_text(), 20)
    assert f"node=a0.{short}@host.example.org" in log.read_text()
    (pidfile,) = background.glob("*.pid")
    assert pidfile.name == f"a0.{short}@host.example.org-host.example.org-example.org.pid"
    umbel(nodes, "call", "apps.ledger.say", "here I am", "--timeout", "20")
    logs = {path.name: path.read_text() for path in background.glob("a0*.log")}
    assert set(logs) == {f"a0.{short}{which}.log" for which in ("", "-1", "-2")}
    saying = [name for name, text in logs.items() if "here I am" in text]
    assert len(saying) == 1 and re.search(r"-[12]\.log$", saying[0])
    worker.stop()


def test_soft_shutdown_gives_running_tasks_time_and_then_gives_them_back(nodes: Fleet) -> None:
    worker = nodes.start("-c", "2", environment={"UMBEL_WORKER_SOFT_SHUTDOWN_TIMEOUT": "2"})
    short = umbel(nodes, "call", "apps.ledger.record", "1").stdout.strip()
    long = umbel(nodes, "call", "apps.ledger.record", "60").stdout.strip()
    wait_for(lambda: nodes.ledger.running() == {short, long} or nodes.ledger.ended()[short], 10)
    started = time.monotonic()
    worker.stop(signal.SIGQUIT)
    assert 1.5 < time.monotonic() - started < 6
    assert "soft shutdown" in worker.output()
    assert nodes.ledger.ended() == {short: 1}
    wait_for(lambda: '"ready": 1' in umbel(nodes, "queues", "--json").stdout, 10)


def test_a_second_signal_ends_a_soft_shutdown_now(nodes: Fleet) -> None:
    worker = nodes.start(
        "-c", "1", environment={"UMBEL_WORKER_SOFT_SHUTDOWN_TIMEOUT": "60", "REMAP_SIGTERM": "SIGQUIT"}
    )
    umbel(nodes, "call", "apps.ledger.record", "60")
    wait_for(lambda: len(nodes.ledger.running()) == 1)
    worker.send_signal(signal.SIGTERM)
    wait_for(lambda: "soft shutdown" in worker.output())
    started = time.monotonic()
    worker.stop(signal.SIGTERM)
    assert time.monotonic() - started < 6
    assert "cold shutdown" in worker.output()
