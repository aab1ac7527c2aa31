"""``celery.platforms``: processes, users, signals and pid files, as the operating system has them."""

from __future__ import annotations

import atexit
import errno as _errno
import grp
import multiprocessing
import os
import platform
import pwd
import resource
import signal as _signal
import sys
from collections.abc import Callable, Collection, Generator, Iterable
from contextlib import contextmanager
from typing import Any

from umbel.errors import UmbelError
from umbel.pidfile import NodeRunning, holder
from umbel.pidfile import Pidfile as _Pidfile

__all__ = [
    "EX_FAILURE",
    "EX_OK",
    "EX_UNAVAILABLE",
    "EX_USAGE",
    "IS_WINDOWS",
    "SIGMAP",
    "SYSTEM",
    "DaemonContext",
    "IS_macOS",
    "LockFailed",
    "Pidfile",
    "close_open_fds",
    "create_pidlock",
    "detached",
    "fd_by_path",
    "get_errno_name",
    "get_fdmax",
    "ignore_errno",
    "initgroups",
    "isatty",
    "maybe_drop_privileges",
    "parse_gid",
    "parse_uid",
    "pyimplementation",
    "set_mp_process_title",
    "set_process_title",
    "setgid",
    "setgroups",
    "setuid",
    "signal_name",
    "signals",
]

EX_OK = 0
EX_FAILURE = 1
EX_USAGE = 64
EX_UNAVAILABLE = 69
EX_CANTCREAT = 73

SYSTEM = platform.system()
IS_macOS = SYSTEM == "Darwin"
IS_WINDOWS = SYSTEM == "Windows"

SIGNAMES: frozenset[str] = frozenset(name for name in dir(_signal) if name.startswith("SIG") and "_" not in name)
SIGMAP: dict[Any, str] = {getattr(_signal, name): name for name in SIGNAMES}

DAEMON_WORKDIR = "/"


class LockFailed(UmbelError):
    """Another process has the pid file."""


def pyimplementation() -> str:
    """The name of this Python: CPython, PyPy …"""
    return platform.python_implementation()


# -- files --


def get_fdmax(default: int | None = None) -> int | None:
    """How many files this process may open, at most; ``default`` where there is no limit."""
    limit = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    return default if limit == resource.RLIM_INFINITY else limit


def close_open_fds(keep: Iterable[Any] | None = None) -> None:
    """Close all open files but ``keep``: descriptors, or what has one."""
    kept = sorted({each if isinstance(each, int) else each.fileno() for each in keep or ()})
    low = 0
    for fd in (*kept, get_fdmax(2048) or 2048):
        os.closerange(low, fd)
        low = fd + 1


def fd_by_path(paths: Collection[str]) -> list[int]:
    """The open descriptors of these files."""
    wanted = {os.stat(path)[1:3] for path in paths}

    def is_wanted(fd: int) -> bool:
        try:
            return os.fstat(fd)[1:3] in wanted
        except OSError:
            return False

    return [fd for fd in range(get_fdmax(2048) or 2048) if is_wanted(fd)]


def isatty(fh: Any) -> Any:
    """Whether a file is a terminal; None for what cannot tell."""
    ask = getattr(fh, "isatty", None)
    return ask() if ask is not None else None


class Pidfile:
    """The pid file of a service. Used as a context manager it is removed at the end. Raises LockFailed."""

    path: str | None = None

    def __init__(self, path: str) -> None:
        self.path = os.path.abspath(path)
        self._file = _Pidfile(self.path)

    def acquire(self) -> Pidfile:
        """Write this process's number, in place of that of one which has died."""
        try:
            self._file.acquire()
        except NodeRunning as error:
            raise LockFailed(str(error)) from error
        return self

    write_pid = acquire

    def is_locked(self) -> bool:
        """Whether the file exists."""
        return os.path.exists(str(self.path))

    def release(self, *args: Any) -> None:
        """Remove the file if it is this process's."""
        self._file.release()

    def read_pid(self) -> int | None:
        """The number in the file, None without a file. Raises ValueError when there is none in it."""
        try:
            with open(str(self.path)) as file:
                line = file.readline()
        except FileNotFoundError:
            return None
        try:
            return int(line.strip())
        except ValueError:
            raise ValueError(f"the pid file {self.path} has no number in it") from None

    def remove(self) -> None:
        """Remove the file if it exists."""
        try:
            os.unlink(str(self.path))
        except FileNotFoundError:
            pass

    def remove_if_stale(self) -> bool:
        """Remove the file unless another live process has it; whether it can be had now."""
        if holder(str(self.path)) not in (None, os.getpid()):
            return False
        self.remove()
        return True

    __enter__ = acquire

    def __exit__(self, *exc: object) -> None:
        self.release()


PIDFile = Pidfile


def create_pidlock(pidfile: str) -> Pidfile:
    """A pid file of this process, removed when it ends; ends the process with status 73 if another live one has it."""
    lock = Pidfile(pidfile)
    try:
        lock.acquire()
    except LockFailed as error:
        print(f"ERROR: {error}", file=sys.stderr)  # noqa: T201 - said to who starts the service
        sys.exit(EX_CANTCREAT)
    owner = os.getpid()

    def release() -> None:
        if os.getpid() == owner:
            lock.release()

    atexit.register(release)
    return lock


# -- daemons --


class DaemonContext:
    """A service in the background from ``open`` on: no terminal, a session of its own, files closed.

    ``umask`` is a number or octal text. ``fake``: all but going to the background. ``after_chdir`` is called there.
    """

    _is_open = False

    def __init__(
        self,
        pidfile: str | None = None,
        workdir: str | None = None,
        umask: int | str | None = None,
        fake: bool = False,
        after_chdir: Callable[[], object] | None = None,
        after_forkers: bool = True,
        **kwargs: Any,
    ) -> None:
        """``pidfile``, ``after_forkers`` and others have no effect."""
        self.workdir = workdir or DAEMON_WORKDIR
        self.umask = int(umask, 8) if isinstance(umask, str) else umask
        self.fake = fake
        self.after_chdir = after_chdir
        self.stdfds = (sys.stdin, sys.stdout, sys.stderr)

    def redirect_to_null(self, fd: int | None) -> None:
        """Let this descriptor lead nowhere."""
        if fd is not None:
            nothing = os.open(os.devnull, os.O_RDWR)
            os.dup2(nothing, fd)
            if nothing != fd:
                os.close(nothing)

    def open(self) -> None:
        if self._is_open:
            return
        if not self.fake:
            for _ in range(2):
                if os.fork():
                    os._exit(0)
                if os.getsid(0) != os.getpid():
                    os.setsid()
        os.chdir(self.workdir)
        if self.umask is not None:
            os.umask(self.umask)
        if self.after_chdir is not None:
            self.after_chdir()
        if not self.fake:
            close_open_fds((0, 1, 2))
            for fd in (0, 1, 2):
                self.redirect_to_null(fd)
        self._is_open = True

    def close(self, *args: Any) -> None:
        self._is_open = False

    def __enter__(self) -> DaemonContext:
        self.open()
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()


def detached(
    logfile: str | None = None,
    pidfile: str | None = None,
    uid: str | int | None = None,
    gid: str | int | None = None,
    umask: int | str = 0,
    workdir: str | None = None,
    fake: bool = False,
    **opts: Any,
) -> DaemonContext:
    """A context in which the process is a service in the background, of that user and group.

    That it can write its log file and have its pid file is tried before it leaves the terminal.
    """
    workdir = os.getcwd() if workdir is None else workdir
    maybe_drop_privileges(uid, gid)

    def try_files() -> None:
        if logfile:
            with open(logfile, "a"):
                pass
        if pidfile:
            create_pidlock(pidfile).release()

    return DaemonContext(umask=umask, workdir=workdir, fake=fake, after_chdir=try_files)


# -- users --


def parse_uid(uid: str | int) -> int:
    """The number of a user given by name or number. Raises KeyError for an unknown name."""
    try:
        return int(uid)
    except ValueError:
        try:
            return pwd.getpwnam(str(uid)).pw_uid
        except KeyError:
            raise KeyError(f"there is no user {uid}") from None


def parse_gid(gid: str | int) -> int:
    """The number of a group given by name or number. Raises KeyError for an unknown name."""
    try:
        return int(gid)
    except ValueError:
        try:
            return grp.getgrnam(str(gid)).gr_gid
        except KeyError:
            raise KeyError(f"there is no group {gid}") from None


def setgroups(groups: Iterable[int]) -> None:
    """Set the groups of this process, as many as the system lets it have; without the right to, no others than now."""
    wanted = list(groups)[: os.sysconf("SC_NGROUPS_MAX")]
    try:
        os.setgroups(wanted)
    except PermissionError:
        if set(wanted) - set(os.getgroups()):
            raise


def initgroups(uid: int, gid: int) -> None:
    """Have the groups of that user, and ``gid``."""
    os.initgroups(pwd.getpwuid(uid).pw_name, gid)


def setgid(gid: str | int) -> None:
    """Become that group."""
    os.setgid(parse_gid(gid))


def setuid(uid: str | int) -> None:
    """Become that user."""
    os.setuid(parse_uid(uid))


def maybe_drop_privileges(uid: str | int | None = None, gid: str | int | None = None) -> None:
    """Become that user and group for good; with a user alone, that user's groups.

    Does nothing where neither is given. Raises PermissionError, OSError.
    """
    if uid is None and gid is None:
        return
    if uid is None:
        setgid(gid or 0)
        return
    user = parse_uid(uid)
    group = parse_gid(gid) if gid is not None else pwd.getpwuid(user).pw_gid
    setgid(group)
    initgroups(user, group)
    setuid(user)
    if user and os.getuid() == 0:
        raise PermissionError("the process has the rights of root still")


# -- signals --


class Signals:
    """Handlers of signals by the names of these, with and without ``SIG``; unknown signals have no effect."""

    ignored = _signal.SIG_IGN
    default = _signal.SIG_DFL

    def arm_alarm(self, seconds: float) -> float:
        """SIGALRM in so many seconds; how many were left of the alarm before."""
        return _signal.setitimer(_signal.ITIMER_REAL, seconds)[0]

    def reset_alarm(self) -> int:
        """No SIGALRM; how many seconds were left of it."""
        return _signal.alarm(0)

    def supported(self, name: str) -> bool:
        """Whether this system has the signal."""
        try:
            self.signum(name)
        except AttributeError:
            return False
        return True

    def signum(self, name: Any) -> int:
        """The number of a signal. Raises AttributeError for an unknown one."""
        if isinstance(name, int):
            return name
        if not isinstance(name, str) or not name.isupper():
            raise TypeError(f"the name of a signal is a text such as SIGTERM or TERM, not {name!r}")
        return getattr(_signal, name if name.startswith("SIG") else f"SIG{name}")

    def reset(self, *signal_names: str) -> None:
        """The default handlers for these."""
        self.update((name, self.default) for name in signal_names)

    def ignore(self, *names: str) -> None:
        """Ignore these."""
        self.update((name, self.ignored) for name in names)

    def __getitem__(self, name: str) -> Any:
        return _signal.getsignal(self.signum(name))

    def __setitem__(self, name: str, handler: Any) -> None:
        try:
            _signal.signal(self.signum(name), handler)
        except (AttributeError, ValueError):  # an unknown signal, or not the main thread
            pass

    def update(self, _d_: Any = None, **sigmap: Any) -> None:
        """Set many handlers."""
        given: dict[str, Any] = dict(_d_ or {}, **sigmap)
        for name, handler in given.items():
            self[name] = handler


signals = Signals()
get_signal = signals.signum
install_signal_handler = signals.__setitem__
reset_signal = signals.reset
ignore_signal = signals.ignore


def signal_name(signum: int) -> str:
    """The name of a signal with its ``SIG``. Raises KeyError for an unknown number."""
    return SIGMAP[signum]


# -- titles and errors --


def set_process_title(progname: str, info: str | None = None) -> str:
    """Show a title for this process in ``ps``, where ``setproctitle`` is installed; the title."""
    title = f"[{progname}]" + (f" {info}" if info else "")
    try:
        import setproctitle  # pyright: ignore[reportMissingImports, reportUnknownVariableType]
    except ImportError:
        return title
    setproctitle.setproctitle(title)  # pyright: ignore[reportUnknownMemberType]
    return title


def set_mp_process_title(progname: str, info: str | None = None, hostname: str | None = None) -> str:
    """As ``set_process_title``, with the node and the name of the ``multiprocessing`` process."""
    if hostname:
        progname = f"{progname}: {hostname}"
    name = multiprocessing.current_process().name.split("-")[-1]
    return set_process_title(f"{progname}:{name}", info=info)


def get_errno_name(n: int | str) -> int:
    """The number of an error of the system given by name or number."""
    return getattr(_errno, n) if isinstance(n, str) else n


@contextmanager
def ignore_errno(*errnos: int | str, **kwargs: Any) -> Generator[None]:
    """Errors of the system with one of these numbers or names are ignored. ``types``: of which classes, default all."""
    types: Any = kwargs.get("types") or (Exception,)
    numbers = [get_errno_name(each) for each in errnos]
    try:
        yield
    except types as error:
        if getattr(error, "errno", None) not in numbers:
            raise
