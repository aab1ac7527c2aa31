"""What ``umbel multi`` does with its nodes, and how it tells of it."""

from __future__ import annotations

import os
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import click
import psutil

from umbel.cli.multi_arguments import NodeSpec, Request
from umbel.nodenames import for_node
from umbel.pidfile import holder

_POLL = 0.05
_DOT_EVERY = 1.0


class Reporter:
    """Writes progress to standard output, errors to standard error."""

    def __init__(self, *, verbose: bool, quiet: bool, color: bool | None) -> None:
        self.verbose = verbose
        self.quiet = quiet
        self.color = color is not False and not os.environ.get("NO_COLOR") and sys.stdout.isatty()

    def say(self, text: str, *, newline: bool = True) -> None:
        if not self.quiet:
            click.echo(text, nl=newline)
            sys.stdout.flush()

    def detail(self, text: str) -> None:
        if self.verbose:
            self.say(text)

    def result(self, good: bool, text: str = "") -> None:
        """The end of a line: OK or FAILED."""
        word = text or ("OK" if good else "FAILED")
        self.say(click.style(word, fg="green" if good else "red", bold=not good) if self.color else word)

    def error(self, text: str) -> None:
        click.echo(text, err=True)


class Node:
    """One worker, which runs if the owner of its pid file lives."""

    def __init__(self, spec: NodeSpec, request: Request) -> None:
        self.spec = spec
        self.name = spec.name
        self.request = request
        self.pidfile = Path(for_node(spec.option("--pidfile"), spec.name)).absolute()
        self.logfile = str(Path(for_node(spec.option("--logfile"), spec.name)).absolute())

    def command(self) -> list[str]:
        """What starts it."""
        request = self.request
        return [
            *(request.executable or sys.executable, "-m", "umbel", *request.application, "worker", "--detach"),
            *("-n", self.name, f"--pidfile={self.pidfile}", f"--logfile={self.logfile}"),
            *(*self.spec.arguments(), *request.passed_on),
        ]

    def pid(self) -> int | None:
        """The process, None when it does not run."""
        return holder(self.pidfile)

    def start(self) -> tuple[bool, str]:
        """Start it; whether it runs now, and what it had to say."""
        for path in (self.pidfile, Path(self.logfile)):
            path.parent.mkdir(parents=True, exist_ok=True)
        try:
            done = subprocess.run(self.command(), stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False)
        except OSError as error:
            return False, str(error)
        return done.returncode == 0, done.stderr.strip()

    def send(self, number: signal.Signals) -> bool:
        """Send it a signal; false when it does not run."""
        pid = self.pid()
        if pid is None:
            return False
        try:
            os.kill(pid, number)
        except ProcessLookupError:
            return False
        return True


class Cluster:
    """All nodes of one command. What is done returns whether it was done for all of them. Raises OSError."""

    def __init__(self, request: Request, reporter: Reporter) -> None:
        self.request = request
        self.reporter = reporter
        self.nodes = [Node(spec, request) for spec in request.nodes]

    def start(self) -> bool:
        self.reporter.say("starting nodes:")
        started = [self._start(node) for node in self.nodes]
        return all(started)

    def stop(self) -> bool:
        """Ask them to stop, and return."""
        self.reporter.say("stopping nodes:")
        number = self.request.signal or signal.SIGTERM
        return None not in [self._send(node, number) for node in self.nodes]

    def stop_and_wait(self) -> bool:
        """Ask all of them to stop, then wait until they have."""
        self.reporter.say("stopping nodes:")
        number = self.request.signal or signal.SIGTERM
        pids = [self._send(node, number) for node in self.nodes]
        self._wait([pid for pid in pids if pid])
        return None not in pids

    def restart(self) -> bool:
        """One after the other, so that some of them work at any time."""
        self.reporter.say("restarting nodes:")
        done: list[bool] = []
        for node in self.nodes:
            if pid := self._send(node, self.request.signal or signal.SIGTERM):
                self._wait([pid])
            done.append(self._start(node))
        return all(done)

    def kill(self) -> bool:
        self.reporter.say("killing nodes:")
        pids = [self._send(node, signal.SIGKILL) for node in self.nodes]
        self._wait([pid for pid in pids if pid])
        for node, pid in zip(self.nodes, pids, strict=True):
            if pid:
                node.pidfile.unlink(missing_ok=True)
        return None not in pids

    def show(self) -> bool:
        """The commands, one a line."""
        for node in self.nodes:
            click.echo(shlex.join(node.command()))
        return True

    def names(self) -> bool:
        for node in self.nodes:
            click.echo(node.name)
        return True

    def expand(self, template: str) -> bool:
        for node in self.nodes:
            click.echo(for_node(template, node.name))
        return True

    def get(self, name: str) -> bool:
        """The options of one node; false when there is none of that name."""
        for node in self.nodes:
            if name in (node.name, node.name.partition("@")[0]):
                click.echo(shlex.join(node.spec.arguments()))
                return True
        self.reporter.error(f"there is no node {name}")
        return False

    # -- one node --

    def _start(self, node: Node) -> bool:
        self.reporter.say(f"  {node.name}: ", newline=False)
        started, said = node.start()
        self.reporter.result(started)
        self.reporter.detail(f"    {shlex.join(node.command())}")
        if not started:
            self.reporter.error(f"{node.name}: {said or 'it ended without a word'}")
        return started

    def _send(self, node: Node, number: signal.Signals) -> int | None:
        """Send a signal; the process that got it, 0 when none runs, None when it may not be sent."""
        pid = node.pid()
        self.reporter.say(f"  {node.name}: ", newline=False)
        try:
            sent = node.send(number)
        except PermissionError as error:
            self.reporter.result(False)
            self.reporter.error(f"{node.name}: process {pid}: {error.strerror}")
            return None
        if not sent or pid is None:
            self.reporter.result(True, "does not run")
            node.pidfile.unlink(missing_ok=True)
            return 0
        self.reporter.result(True, f"{number.name.removeprefix('SIG')} -> {pid}")
        return pid

    def _wait(self, pids: list[int]) -> None:
        """Until none of these processes lives; a dot a second says that it goes on."""
        if not pids:
            return
        self.reporter.say(f"waiting for {len(pids)} node{'' if len(pids) == 1 else 's'}: ", newline=False)
        self._until(lambda: not any(map(_lives, pids)))
        self.reporter.result(True)

    def _until(self, condition: Callable[[], bool]) -> None:
        dot_at = time.monotonic() + _DOT_EVERY
        while not condition():
            time.sleep(_POLL)
            if time.monotonic() >= dot_at:
                self.reporter.say(".", newline=False)
                dot_at += _DOT_EVERY


def _lives(pid: int) -> bool:
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False
