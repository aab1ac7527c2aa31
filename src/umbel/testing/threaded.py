"""A whole worker in a thread of the test process: the real supervisor, with every pool, on any broker.

Executor processes are forked from the test process when the worker starts, so they know the tasks that exist by then,
with all that the test has changed. Pools that patch the standard library start a new interpreter instead, which imports
the application by its name.
"""

from __future__ import annotations

import contextlib
import importlib
import itertools
import logging
import os
import threading
import time
from collections.abc import Generator, Sequence
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING, Any

from umbel.backends.memory import MemoryBackend
from umbel.brokers.memory import MemoryBroker
from umbel.errors import ConfigurationError, TimeoutError, UmbelError
from umbel.executors.lanes import find_lanes
from umbel.loading import name_app
from umbel.log.formatting import TextFormatter
from umbel.nodenames import node_name
from umbel.result import allow_join_result
from umbel.signals import worker_process_init, worker_ready
from umbel.testing.memory_sharing import MemoryServer
from umbel.worker.stopping import Shutdown
from umbel.worker.supervisor import Worker

if TYPE_CHECKING:
    import pytest

    from umbel.app import Umbel
    from umbel.executors.lanes.base import Lanes

PING = "celery.ping"
"""The task by which a worker is asked whether it works; Celery's name."""

_COLD_TIMEOUT = 15.0
_ASK_AGAIN = 0.2
_numbers = itertools.count(1)


class WorkerInThread:
    """A worker that runs in this process; see ``start_worker``.

    ``app``; ``worker``: the supervisor, None while it does not run; ``hostname``: its node name.
    """

    def __init__(
        self,
        app: Umbel,
        *,
        pool: str,
        hostname: str | None = None,
        shutdown_timeout: float = 10.0,
        **made_of: Any,
    ) -> None:
        """``made_of``: further arguments of ``umbel.worker.supervisor.Worker``."""
        self.app = app
        self.hostname = node_name(hostname or f"test-{os.getpid()}-{next(_numbers)}@%h")
        self.shutdown_timeout = shutdown_timeout
        self.worker: Worker | None = None
        self._made_of: dict[str, Any] = {"pool": pool, **made_of}
        self._thread: threading.Thread | None = None
        self._changed = threading.Event()
        self._error: BaseException | None = None
        self._open = ExitStack()

    # -- life --

    def start(self, timeout: float = 30.0) -> None:
        """Returns when it takes tasks. Raises TimeoutError, and what keeps it from starting."""
        app = self.app
        app.finalize()
        kind = find_lanes(self._made_of["pool"])
        self._changed.clear()
        self._error = None
        with ExitStack() as opened:
            if kind.patch:
                name_app(app, kind.name)
            if not kind.in_supervisor:
                self._share_memory(kind, opened)
            worker = Worker(app, hostname=self.hostname, embedded=True, **self._made_of)
            self.worker, self._thread = worker, threading.Thread(target=self._run, args=(worker,), name="umbel-worker")
            ready = threading.Event()

            def on_ready(**_: Any) -> None:
                ready.set()
                self._changed.set()

            worker_ready.connect(on_ready, sender=worker, weak=False)
            opened.callback(worker_ready.disconnect, on_ready, sender=worker)
            self._open = opened.pop_all()
            self._thread.start()
        self._changed.wait(timeout)
        if not ready.is_set():
            self._end(0.0)
            raise TimeoutError(f"the worker was not ready in {timeout} s")

    def stop(self, timeout: float | None = None) -> None:
        """Stop warmly; after ``timeout`` seconds (default ``shutdown_timeout``) running tasks are given back.

        Raises what the worker failed with, and TimeoutError when tasks had to be given back.
        """
        patience = self.shutdown_timeout if timeout is None else timeout
        if self.worker is not None and not self._end(patience):
            raise TimeoutError(
                f"tasks were still running after {patience} s and were given back; "
                "a longer shutdown_timeout lets them end"
            )

    def _end(self, patience: float) -> bool:
        """Whether it stopped warmly. Raises what it failed with."""
        worker, thread = self.worker, self._thread
        assert worker is not None and thread is not None
        warm = self._shut_down(worker, thread, Shutdown.WARM, patience)
        ended = warm or self._shut_down(worker, thread, Shutdown.COLD, _COLD_TIMEOUT)
        self.worker = self._thread = None
        self._open.close()
        if self._error is not None:
            raise self._error
        if not ended:
            raise TimeoutError(f"the worker {self.hostname} did not stop within {patience + _COLD_TIMEOUT} s")
        return warm

    def reload(self) -> None:
        """Take up tasks that were defined since the worker started: executor processes are started anew."""
        worker = self.worker
        if worker is None or not worker.kind.in_supervisor:
            self.stop()
            self.start()
            return
        worker.rates.read()
        for queue in worker.queues:
            known = [task for task in self.app.broker.parked(queue.name) if task in self.app.tasks]
            if known:
                self.app.broker.unpark(queue.name, known)

    def ping(self, timeout: float = 10.0) -> None:
        """Run a task, and wait for its result. Raises TimeoutError.

        Does nothing where results are not stored, and with pools whose processes know nothing of this one's tasks.
        """
        worker, app = self.worker, self.app
        if worker is None or worker.kind.patch or app.backend.features.knows_nothing:
            return
        queue = worker.queues[0].name
        with allow_join_result():
            app.send_task(PING, queue=queue, ignore_result=False).get(timeout=timeout)

    # -- inside --

    def _run(self, worker: Worker) -> None:
        try:
            code = worker.run()
            if code:
                self._error = UmbelError(f"the worker gave up, exit code {code}; its log says why")
        except BaseException as error:
            self._error = error
        finally:
            self._changed.set()

    def _share_memory(self, kind: type[Lanes], opened: ExitStack) -> None:
        app = self.app
        if not isinstance(app.broker, MemoryBroker) and not isinstance(app.backend, MemoryBackend):
            return
        if kind.patch:
            raise ConfigurationError(
                f"the processes of pool {kind.name} are no forks of this one, so they cannot reach what is in "
                "its memory: use another broker and result backend than memory://, such as sqlite:///file.db"
            )
        server = MemoryServer(app)
        opened.callback(server.close)
        worker_process_init.connect(server.enter, weak=False)
        opened.callback(worker_process_init.disconnect, server.enter)

    @staticmethod
    def _shut_down(worker: Worker, thread: threading.Thread, how: Shutdown, patience: float) -> bool:
        """Whether the worker ended within ``patience`` seconds. It may not have a loop yet that could be told."""
        deadline = time.monotonic() + patience
        while thread.is_alive():
            with contextlib.suppress(RuntimeError):  # its loop has just ended
                worker.call_soon(worker.shut_down, how)
            left = deadline - time.monotonic()
            if left <= 0:
                return False
            thread.join(min(left, _ASK_AGAIN))
        return True


@contextmanager
def start_worker(
    app: Umbel,
    concurrency: int | None = 1,
    pool: str = "solo",
    loglevel: str | int | None = None,
    logfile: str | None = None,
    perform_ping_check: bool = True,
    ping_task_timeout: float = 10.0,
    shutdown_timeout: float = 10.0,
    *,
    processes: int | None = None,
    queues: str | Sequence[str] | None = None,
    exclude_queues: str | Sequence[str] | None = None,
    hostname: str | None = None,
    start_timeout: float = 30.0,
    **options: Any,
) -> Generator[WorkerInThread]:
    """Run a worker of ``app`` in a thread while the ``with`` block lasts; it takes tasks when the block begins.

    ``pool``: any; ``concurrency``, ``processes``: as on the command line. ``queues``: names, default all configured.
    ``loglevel``, ``logfile``: of Umbel's log meanwhile; by default it goes where this process logs. At the beginning a
    task is run (``perform_ping_check``), for at most ``ping_task_timeout`` seconds. At the end running tasks have
    ``shutdown_timeout`` seconds. ``options``: for ``__init__`` of boot steps.

    With ``memory://`` processes of the worker pass their calls on to this one. Connections of ``app`` itself are left
    open. Raises ConfigurationError, TimeoutError, and what the worker fails with.
    """
    if perform_ping_check and not find_lanes(pool).patch:
        _add_ping(app)
    running = WorkerInThread(
        app,
        hostname=hostname,
        shutdown_timeout=shutdown_timeout,
        pool=pool,
        concurrency=None if processes is not None and find_lanes(pool).single else concurrency,
        processes=processes,
        queues=_names(queues),
        exclude=_names(exclude_queues),
        options=options,
    )
    with _logging(loglevel, logfile):
        running.start(start_timeout)
        try:
            if perform_ping_check:
                running.ping(ping_task_timeout)
            yield running
        finally:
            running.stop()


@contextmanager
def worker_of_fixture(request: pytest.FixtureRequest, names: str, app: Umbel) -> Generator[WorkerInThread]:
    """The worker of a fixture for pytest. Of the fixtures whose names begin with ``names``, ``…_includes`` are modules
    to import before, ``…_worker_pool`` and ``…_worker_parameters`` arguments of ``start_worker``, and
    ``…_enable_logging`` is whether it logs from INFO on."""
    for module in request.getfixturevalue(f"{names}_includes"):
        importlib.import_module(module)
    arguments: dict[str, Any] = {
        "pool": request.getfixturevalue(f"{names}_worker_pool"),
        "loglevel": "INFO" if request.getfixturevalue(f"{names}_enable_logging") else None,
        **request.getfixturevalue(f"{names}_worker_parameters"),
    }
    with start_worker(app, **arguments) as worker:
        yield worker


def _add_ping(app: Umbel) -> None:
    if PING not in app.tasks:
        app.make_task(_pong, name=PING)


def _pong() -> str:
    return "pong"


def _names(given: str | Sequence[str] | None) -> list[str] | None:
    if given is None:
        return None
    names = given.split(",") if isinstance(given, str) else given
    return [name.strip() for name in names if name.strip()]


@contextmanager
def _logging(level: str | int | None, file: str | None) -> Generator[None]:
    """Umbel's log at another level, and to a file as well, for a while."""
    logger = logging.getLogger("umbel")
    before = logger.level
    handler = logging.FileHandler(file, encoding="utf-8") if file else None
    if handler is not None:
        handler.setFormatter(TextFormatter())
        logger.addHandler(handler)
    if level is not None:
        logger.setLevel(level.upper() if isinstance(level, str) else level)
    try:
        yield
    finally:
        logger.setLevel(before)
        if handler is not None:
            logger.removeHandler(handler)
            handler.close()
