"""A worker as a service of its own: in the background, as another user, by another Python.

``detach`` forks twice before anything else is done. The terminal stays connected until the worker has begun, so that
whatever keeps it from starting is shown there and in the exit status of the command; then the streams go to the log.
"""

from __future__ import annotations

import grp
import os
import pwd
import sys
from collections.abc import Callable
from typing import NoReturn

from umbel.errors import ConfigurationError

_EXECUTED = "UMBEL_CLI_EXECUTED_BY"


def execute_with(executable: str) -> None:
    """Run this very command by another Python instead; returns in that one. Raises ConfigurationError."""
    if os.environ.pop(_EXECUTED, None) == executable:
        return
    sys.stdout.flush()
    sys.stderr.flush()
    try:
        os.execve(executable, [executable, "-m", "umbel", *sys.argv[1:]], {**os.environ, _EXECUTED: executable})
    except OSError as error:
        raise ConfigurationError(f"--executable {executable}: {error.strerror}") from error


def detach() -> Callable[[str | None], None]:
    """Go on as a daemon: a session of its own, no terminal, nobody's child. The process must have no threads yet.

    The command that was called waits; it ends with status 0 once the function returned here was called, which sends
    standard output and error to the file given (None: nowhere), and with 1 if the daemon ends before.
    """
    read, write = os.pipe()
    if os.fork():
        os.close(write)
        _wait_for_start(read)
    os.close(read)
    os.setsid()
    if os.fork():
        os._exit(0)

    def begun(file: str | None) -> None:
        sys.stdout.flush()
        sys.stderr.flush()
        nothing = os.open(os.devnull, os.O_RDWR)
        output = os.open(file, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644) if file else nothing
        os.dup2(nothing, 0)
        os.dup2(output, 1)
        os.dup2(output, 2)
        for fd in {nothing, output}:
            os.close(fd)
        os.write(write, b"!")
        os.close(write)

    return begun


def _wait_for_start(read: int) -> NoReturn:
    started = os.read(read, 1) == b"!"
    os._exit(0 if started else 1)


def set_umask(text: str | int) -> None:
    """``text`` is octal, as in ``022``; a number is taken as it is. Raises ConfigurationError."""
    try:
        mask = text if isinstance(text, int) else int(text, 8)
    except ValueError:
        raise ConfigurationError(f"the umask must be octal, such as 022, not {text!r}") from None
    if not 0 <= mask <= 0o777:
        raise ConfigurationError(f"the umask must be from 000 to 777, not {text!r}")
    os.umask(mask)


def drop_privileges(uid: str | int | None, gid: str | int | None) -> None:
    """Become another user and group for good; with a user alone, that user's groups. Names or numbers.

    Raises ConfigurationError for unknown ones, and when this process may not do that.
    """
    if uid is None and gid is None:
        return
    user = _user(uid) if uid is not None else None
    group = _group(gid) if gid is not None else user.pw_gid if user is not None else os.getgid()
    try:
        if user is None:
            os.setgid(group)
        elif os.geteuid() == 0:
            os.initgroups(user.pw_name, group)
            os.setgid(group)
            os.setuid(user.pw_uid)
        elif (user.pw_uid, group) != (os.getuid(), os.getgid()):
            raise PermissionError
    except PermissionError:
        raise ConfigurationError("only root can change user and group (--uid, --gid)") from None
    if user is not None:
        os.environ.update(USER=user.pw_name, LOGNAME=user.pw_name, HOME=user.pw_dir)


def _user(name: str | int) -> pwd.struct_passwd:
    try:
        return pwd.getpwuid(int(name)) if str(name).isdecimal() else pwd.getpwnam(str(name))
    except KeyError:
        raise ConfigurationError(f"there is no user {name}") from None


def _group(name: str | int) -> int:
    try:
        return grp.getgrgid(int(name)).gr_gid if str(name).isdecimal() else grp.getgrnam(str(name)).gr_gid
    except KeyError:
        raise ConfigurationError(f"there is no group {name}") from None
