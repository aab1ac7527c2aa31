"""``app.Worker`` and ``app.WorkController``: a worker that a program of one's own starts, under Celery's names.

It is what ``umbel worker`` runs: the same ``Worker`` of ``supervisor``, with the same options under their long names.
"""

from __future__ import annotations

import difflib
import importlib
import logging
import threading
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any

from msgspec.structs import replace

from umbel.current import get_current_app
from umbel.errors import UmbelError
from umbel.executors.fresh import COMMAND_LINE
from umbel.loading import name_app
from umbel.log import setup as log
from umbel.log.telling import set_up_logging
from umbel.nodenames import DEFAULT, for_node, node_name
from umbel.pidfile import Pidfile
from umbel.worker.stopping import Shutdown
from umbel.worker.supervisor import Worker as Supervisor

if TYPE_CHECKING:
    from umbel.app import Umbel

SETTINGS: Mapping[str, str] = {
    "autoscale": "worker_autoscale",
    "disable_prefetch": "worker_disable_prefetch",
    "events": "worker_send_task_events",
    "health_port": "worker_health_address",
    "max_memory_per_child": "worker_max_memory_per_child",
    "max_tasks_per_child": "worker_max_tasks_per_child",
    "pidfile": "worker_pidfile",
    "prefetch_multiplier": "worker_prefetch_multiplier",
    "soft_time_limit": "task_soft_time_limit",
    "task_events": "worker_send_task_events",
    "task_soft_time_limit": "task_soft_time_limit",
    "task_time_limit": "task_time_limit",
    "time_limit": "task_time_limit",
}
"""Arguments that are settings: they are set when a worker is made, and stay set."""

WITHOUT_EFFECT = frozenset(
    {"O", "heartbeat_interval", "no_color", "optimization", "pool_putlocks", "pool_restarts", "quiet", "ready_callback"}
    | {"state_db", "statedb", "use_eventloop", "without_gossip", "without_heartbeat", "without_mingle"}
)
"""Arguments of Celery's worker for which there is nothing to do, or which have no effect."""


class WorkController:
    """A worker inside of a program that goes on to own its process: signals, memory and log stay as they are.

    ``hostname``: node name, with ``%h``, ``%n``, ``%d``. ``pool``: the kind of lanes. ``concurrency``, ``processes``:
    as on the command line. ``queues``, ``exclude_queues``: names, in a list or separated by commas. ``include``:
    modules to import. ``loglevel``, ``logfile``: set the log up; where neither is given it is left alone. ``grace``:
    seconds that a warm shutdown waits for running tasks. ``options``: those in ``SETTINGS``, and any for boot steps.

    Raises ConfigurationError for what cannot be run, TypeError for an option that nothing takes.
    """

    app: Umbel | None = None
    owns_process = False
    default_loglevel: str | None = None

    def __init__(
        self,
        app: Umbel | None = None,
        hostname: str | None = None,
        *,
        pool: str | None = None,
        concurrency: int | None = None,
        processes: int | None = None,
        queues: str | Sequence[str] | None = None,
        exclude_queues: str | Sequence[str] | None = None,
        include: str | Sequence[str] | None = None,
        loglevel: str | int | None = None,
        logfile: str | None = None,
        grace: float | None = None,
        **options: Any,
    ) -> None:
        app = self.app = app or self.app or get_current_app()
        self.hostname = node_name(hostname or DEFAULT)
        _check(app, options)
        given = {SETTINGS[name]: value for name, value in options.items() if name in SETTINGS and value is not None}
        app.conf.assign(given, COMMAND_LINE)
        for module in _names(include) or []:
            importlib.import_module(module)
        app.import_task_modules()
        level = loglevel if loglevel is not None else self.default_loglevel
        if level is not None or logfile is not None:
            _log(app, level or logging.WARNING, logfile, self.hostname)
        size: dict[str, Any] = {"pool": pool, "concurrency": concurrency, "processes": processes, "grace": grace}
        consumed, excluded = _names(queues), _names(exclude_queues)
        told = {"hostname": self.hostname, "loglevel": level, "logfile": logfile}
        self.supervisor = Supervisor(
            app,
            **size,
            queues=consumed,
            exclude=excluded,
            hostname=self.hostname,
            options={**size, **told, "queues": consumed, "exclude_queues": excluded, **options},
            embedded=not self.owns_process,
        )
        """What really works; signals and boot steps get it."""
        if self.supervisor.kind.patch:
            name_app(app, self.supervisor.kind.name)
        self._pidfile = Pidfile(for_node(app.conf.worker_pidfile, self.hostname)) if app.conf.worker_pidfile else None
        self._started = False

    def start(self) -> None:
        """Work until ``stop`` or ``terminate``; ``exitcode`` is known then.

        Raises UmbelError when it was started before, and what keeps a worker from running or ends it.
        """
        if self._started:
            raise UmbelError(f"the worker {self.hostname} was started before; make another one")
        self._started = True
        if threading.current_thread() is not threading.main_thread():
            self.supervisor.embedded = True
        with ExitStack() as held:
            if self._pidfile is not None:
                self._pidfile.acquire()
                held.callback(self._pidfile.release)
            self.supervisor.run()

    def stop(self, in_sighandler: bool = False, exitcode: int | None = None) -> None:
        """Have it stop warmly: running tasks end, for at most the grace time. Returns at once, ``start`` when it has
        stopped; any thread. ``in_sighandler`` makes no difference."""
        self.supervisor.request_shutdown(Shutdown.WARM, exitcode or 0)

    def terminate(self, in_sighandler: bool = False) -> None:
        """As ``stop``, but running tasks are given back at once."""
        self.supervisor.request_shutdown(Shutdown.COLD)

    @property
    def exitcode(self) -> int:
        """0, or why it stopped."""
        return self.supervisor.exit_code

    @property
    def concurrency(self) -> int:
        """Tasks at a time."""
        return self.supervisor.concurrency


class Worker(WorkController):
    """A worker for which this process is: TERM, INT and QUIT stop it, and it logs, from WARNING on.

    Arguments as of ``WorkController``. Its pool is forked by ``start``: no threads should have been started before.
    ``start`` in another thread than the main one leaves the process alone, as ``WorkController`` does.
    """

    owns_process = True
    default_loglevel = "WARNING"


def _check(app: Umbel, options: Mapping[str, Any]) -> None:
    if app.user_options["worker"] or app.steps["worker"] or app.steps["consumer"]:
        return
    known = SETTINGS.keys() | WITHOUT_EFFECT
    for name in options.keys() - known:
        named = {"hostname", "pool", "concurrency", "processes", "queues", "exclude_queues", "include", "loglevel"}
        close = difflib.get_close_matches(name, {*known, *named, "logfile", "grace"}, n=1)
        hint = f"; did you mean {close[0]!r}?" if close else ""
        raise TypeError(f"unknown option of a worker: {name!r}{hint}")


def _names(given: str | Sequence[str] | None) -> list[str] | None:
    names = given.split(",") if isinstance(given, str) else given
    return [name.strip() for name in names if name.strip()] if names else None


def _log(app: Umbel, level: str | int, file: str | None, node: str) -> None:
    name = logging.getLevelName(level) if isinstance(level, int) else level.upper()
    wanted = log.setup_of(app.conf, level=name, style=None, file=file)
    wanted = replace(wanted, file=for_node(wanted.file, node) if wanted.file else None)
    set_up_logging(lambda: log.configure(wanted), level=name, file=wanted.file, style=wanted.style, color=wanted.color)
