"""The command `scripts/services`."""

import argparse
import os
import sys
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor

from . import memory
from .catalogue import PRIVATE, SERVERS, chosen, given_url, variable
from .errors import NotReady, ServiceError
from .install import install
from .processes import Process
from .registry import DATA, Registry


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; returns the exit status: 0, 1 when something could not be had, 2 for a wrong call."""
    arguments = _parser().parse_args(argv)
    try:
        return arguments.run(arguments)
    except ServiceError as error:
        print(error, file=sys.stderr)
        return 1
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except KeyboardInterrupt:
        return 130


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="scripts/services",
        description="Real servers for the tests, on free loopback ports, with their data in .services/, or in the "
        f"directory that the variable {DATA} names when they are started.",
        epilog=f"Services: {', '.join(SERVERS)}; all of them when none is named. "
        "A server whose variable UMBEL_TEST_<NAME>_URL is set is used as given, never started or stopped.",
    )
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    def command(name: str, run: Callable[[argparse.Namespace], int], text: str) -> argparse.ArgumentParser:
        added = commands.add_parser(name, help=text, description=text)
        added.set_defaults(run=run)
        return added

    def several(added: argparse.ArgumentParser) -> None:
        added.add_argument("names", nargs="*", metavar="NAME", help="a service; all when none is named")

    several(command("install", _install, "Install what is missing, with apt-get."))
    start = command("start", _start, "Start servers and wait until they answer.")
    start.add_argument("--for-pid", type=int, metavar="PID", help="only while that process lives or until its release")
    several(start)
    release = command("release", _release, "End the hold of a process and stop what nobody else wants.")
    release.add_argument("--for-pid", type=int, metavar="PID", required=True)
    room = command("memory", _memory, "Make a directory in memory until the release of a process, and print its path.")
    room.add_argument("--for-pid", type=int, metavar="PID", required=True)
    command("status", _status, "Show what is installed and what runs.")
    command("env", _env, "Print the variables with the URLs of what runs.")
    stop = command("stop", _stop, "Stop what was started, and delete its data.")
    stop.add_argument("--force", action="store_true", help="also what a test session still uses")
    several(stop)
    restart = command("restart", _restart, "Restart one server with the same port and data.")
    restart.add_argument("name", metavar="NAME")
    restart.add_argument("--kill", action="store_true", help="by SIGKILL instead of in good order")
    return parser


def _install(arguments: argparse.Namespace) -> int:
    install(chosen(arguments.names, [*SERVERS, *PRIVATE]))
    return 0


def _start(arguments: argparse.Namespace) -> int:
    holder = None if arguments.for_pid is None else _process(arguments.for_pid)
    registry = Registry()
    registry.sweep()

    def start(name: str) -> bool:
        if url := given_url(name):
            return _say(name, f"given by {variable(name)}: {url}")
        began = time.monotonic()
        try:
            record, fresh = registry.start(name, holder)
        except (ServiceError, NotReady, OSError) as error:
            print(str(error), file=sys.stderr, flush=True)
            return False
        state = f"started in {time.monotonic() - began:.1f} s" if fresh else "running"
        return _say(name, f"{state}: {record.instance.server.url}")

    return _in_parallel(start, chosen(arguments.names))


def _release(arguments: argparse.Namespace) -> int:
    registry = Registry()
    holder = Process.of(arguments.for_pid)
    for key in registry.release(holder) if holder is not None else registry.sweep():
        _say(key, "stopped")
    if holder is not None:
        memory.release(holder)
    memory.sweep()
    return 0


def _memory(arguments: argparse.Namespace) -> int:
    holder = _process(arguments.for_pid)
    Registry().sweep()
    directory = memory.make(holder)
    if directory is None:
        raise ServiceError(f"{memory.MEMORY} is not a file system in memory with {memory.ROOM >> 30} GiB of room")
    print(directory)
    return 0


def _process(pid: int) -> Process:
    found = Process.of(pid)
    if found is None:
        raise ServiceError(f"there is no process {pid}")
    return found


def _status(_arguments: argparse.Namespace) -> int:
    registry = Registry()
    for name, system in SERVERS.items():
        if url := given_url(name):
            _say(name, f"given by {variable(name)}: {url}")
        elif record := registry.running(name):
            use = ", ".join(
                (["kept"] if record.kept else [])
                + [f"used by process {holder.pid}" for holder in record.holders if holder.alive()]
            )
            _say(name, f"running: {record.instance.server.url} (pid {record.instance.leaders[-1].pid}; {use})")
        elif missing := system.missing():
            _say(name, f"not installed ({', '.join(missing)} missing)")
        else:
            _say(name, "ended by itself" if registry.state.read(name) else "not running")
    for key in registry.state.recorded():
        record = registry.state.read(key)
        if record is not None and record.private:
            holders = ", ".join(str(holder.pid) for holder in record.holders)
            _say(key, f"private to process {holders}: {record.instance.server.url}")
    return 0


def _env(_arguments: argparse.Namespace) -> int:
    registry = Registry()
    for name in SERVERS:
        record = registry.running(name)
        url = given_url(name) or (record.instance.server.url if record else None)
        if url:
            print(f"{variable(name)}={url}")
    return 0


def _stop(arguments: argparse.Namespace) -> int:
    registry = Registry()
    if not arguments.names:
        registry.sweep()

    def stop(name: str) -> bool:
        return _say(name, registry.stop(name, force=arguments.force))

    known = registry.state.recorded()
    return _in_parallel(stop, chosen(arguments.names) if arguments.names else known)


def _restart(arguments: argparse.Namespace) -> int:
    (name,) = chosen([arguments.name])
    if given_url(name):
        raise ServiceError(f"{name} is given by {variable(name)}: restart it by its own means")
    record = Registry().restart(name, kill=arguments.kill)
    _say(name, f"restarted: {record.instance.server.url}")
    return 0


def _in_parallel(action: Callable[[str], bool], names: Sequence[str]) -> int:
    if not names:
        return 0
    with ThreadPoolExecutor(max_workers=len(names)) as pool:
        return 0 if all(list(pool.map(action, names))) else 1


def _say(name: str, text: str) -> bool:
    print(f"{name}: {text}", flush=True)
    return True
