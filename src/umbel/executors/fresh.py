"""A nursery that is a program of its own, for pools that patch the standard library.

gevent and eventlet must patch before anything else is imported, and the supervisor must not be patched. So a new
interpreter is started, which patches first, imports the application once more by the name by which ``-A`` found it,
and is a nursery like any other from then on.
"""

from __future__ import annotations

import json
import logging
import os
import subprocess
import sys
from functools import partial
from typing import TYPE_CHECKING, Any

import msgspec
from msgspec import Struct

from umbel.errors import ConfigurationError
from umbel.executors.board import Board
from umbel.executors.nursery import Nursery, NurseryProcess, open_control, run_and_exit
from umbel.executors.originals import original, patched_by
from umbel.executors.process import ExecutorBody
from umbel.log.setup import LogSetup, configure, current_setup

if TYPE_CHECKING:
    from umbel.app import Umbel
    from umbel.executors.lanes.base import Lanes

logger = logging.getLogger("umbel.worker.nursery")

_BOOT = """\
import json, sys
sys.path[:] = json.loads(sys.argv[2])
{patch}
{prelude}
from umbel.executors.fresh import main
main(int(sys.argv[1]))
"""
_RECEIVE_SIZE = 1 << 18


class Recipe(Struct):
    """What the new interpreter needs to know: the first packet on its control channel.

    ``app``: as ``-A`` has it. ``settings``: those given on the command line. ``logging``: how the supervisor logs.
    ``kind``: ``module:Class`` of the lanes, ``count`` of them. ``board``: its descriptor and number of slots.
    """

    app: str
    settings: dict[str, Any]
    logging: LogSetup | None
    kind: str
    count: int
    hostname: str
    board: tuple[int, int]
    parent: int


class FreshNursery(Nursery):
    """As ``Nursery``, started by ``exec``. Raises ConfigurationError for an application without a name."""

    def __init__(
        self, kind: type[Lanes], app: Umbel, board: Board, count: int, hostname: str, *, embedded: bool = False
    ) -> None:
        check_unpatched(kind.name)
        if app.imported_as is None:
            raise ConfigurationError(
                f"the pool {kind.name} must patch before the application is imported, but it was imported first, "
                f"and not by its name; run it as: umbel -A MODULE worker --pool {kind.name}"
            )
        own, theirs = open_control()
        given = _plain_settings(app) if embedded else _given_on_command_line(app)
        recipe = Recipe(
            app.imported_as,
            given,
            current_setup(),
            f"{kind.__module__}:{kind.__qualname__}",
            count,
            hostname,
            (board.fileno(), board.slots),
            os.getpid(),
        )
        program = _BOOT.format(patch=kind.patch, prelude=app.prelude)
        command = [sys.executable, "-c", program, str(theirs.fileno()), json.dumps(sys.path)]
        self._process = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, pass_fds=(theirs.fileno(), board.fileno()), process_group=0
        )
        self.pid = self._process.pid
        own.send(msgspec.msgpack.encode(recipe))
        self._attend(own, theirs)

    def close(self) -> None:
        self._control.close()
        self._process.wait()


COMMAND_LINE = "the command line"


def _given_on_command_line(app: Umbel) -> dict[str, Any]:
    return {name: value for name, value in app.conf.changed().items() if app.conf.origin(name) == COMMAND_LINE}


def _plain_settings(app: Umbel) -> dict[str, Any]:
    """All settings that are not defaults, as far as they are plain values: code that imports the application may have
    changed them since."""
    plain = (str, int, float, bool, type(None))
    return {name: value for name, value in app.conf.changed().items() if isinstance(value, plain)}


def check_unpatched(pool: str) -> None:
    """Raises ConfigurationError when the application has patched the process of the supervisor."""
    library = patched_by()
    if library is not None:
        raise ConfigurationError(
            f"the application has patched the supervisor's process by {library} when it was imported; leave that to "
            f"--pool {library}, which patches its executors only" + ("" if pool == library else f" (pool now: {pool})")
        )


def main(control_fd: int) -> None:
    """Be the nursery, in the interpreter that ``FreshNursery`` started and that has been patched by now."""
    control = original("socket", "socket")(fileno=control_fd)
    recipe = msgspec.msgpack.decode(control.recv(_RECEIVE_SIZE), type=Recipe)

    from umbel.executors.lanes import find_lanes
    from umbel.loading import find_app

    if recipe.logging is not None:
        configure(recipe.logging)
    app = find_app(recipe.app)
    app.conf.assign(recipe.settings, COMMAND_LINE)
    app.import_task_modules()
    app.finalize()
    drivers = f"{type(app.broker).__name__}, {type(app.backend).__name__}"
    logger.debug("drivers were loaded once, before executors are forked: %s", drivers)
    fd, slots = recipe.board
    body = ExecutorBody(find_lanes(recipe.kind), app, Board(slots, fd), recipe.count, recipe.hostname)
    run_and_exit(NurseryProcess(control, body, recipe.parent, partial(body.prepare, warm=False)).run)
