"""The third layer of an application: what belongs to the program that it runs in, and Celery's views of it all."""

from __future__ import annotations

import sys
import threading
import uuid
from collections.abc import Sequence
from functools import cached_property
from typing import TYPE_CHECKING, Any

from umbel.application.tasked import TaskedApp
from umbel.signals import Signal

if TYPE_CHECKING:
    from umbel.application.amqp import AMQP
    from umbel.application.connections import Connection, Pool, Producer
    from umbel.application.loader import Loader
    from umbel.application.logs import Logging
    from umbel.control import Control
    from umbel.worker.program import WorkController, Worker


class EquippedApp(TaskedApp):
    """An application in a program."""

    commands = "umbel.cli:run_for"
    """What ``start`` calls with the application and the arguments; it returns an exit status."""
    worker_cls = "umbel.worker.program:Worker"
    work_controller_cls = "umbel.worker.program:WorkController"
    """What ``Worker`` and ``WorkController`` are subclasses of."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.on_after_fork = Signal(name="on_after_fork")
        """This process was forked, and has forgotten its parent's connections. Sender: the application."""
        self._forget_identity()

    def _forget_identity(self) -> None:
        self._oid = ""
        self._thread = threading.local()

    @property
    def oid(self) -> str:
        """An id of the application in this process."""
        if not self._oid:
            self._oid = str(uuid.uuid4())
        return self._oid

    @property
    def thread_oid(self) -> str:
        """An id of the application in this thread."""
        known: str | None = getattr(self._thread, "oid", None)
        if known is None:
            known = self._thread.oid = str(uuid.uuid4())
        return known

    def subclass_with_self(
        self,
        Class: type | str,
        name: str | None = None,
        attribute: str = "app",
        reverse: str | None = None,
        keep_reduce: bool = False,
        **kw: Any,
    ) -> type:
        """A subclass of ``Class`` (or of the one it names) whose ``attribute`` is this application.

        ``name``: its own name; ``kw``: more attributes. ``reverse`` and ``keep_reduce`` have no effect: such classes
        are pickled as others are.
        """
        from umbel.config.loading import load_object

        base: type = load_object(Class) if isinstance(Class, str) else Class
        attributes = {attribute: self, "__module__": base.__module__, "__doc__": base.__doc__, **kw}
        return type(name or base.__name__, (base,), attributes)

    # -- programs --

    def start(self, argv: Sequence[str] | None = None) -> int:
        """Run the command line of ``umbel`` for this application, with these arguments or the program's own.

        Returns the exit status. Raises what the command raises, and click's errors for wrong usage.
        """
        from umbel.config.loading import load_object

        return load_object(self.commands)(self.whole, argv)

    def worker_main(self, argv: Sequence[str] | None = None) -> int:
        """Run a worker in this process: ``start`` with arguments that must begin with, or contain, ``worker``.

        Raises ValueError where they do not.
        """
        given = list(sys.argv[1:] if argv is None else argv)
        if "worker" not in given:
            raise ValueError(f"worker_main needs the command worker among its arguments: {' '.join(given) or 'none'}")
        return self.start(given)

    @cached_property
    def Worker(self) -> type[Worker]:
        """``app.Worker(pool="threads", queues=["mails"]).start()``: a worker for which this process is."""
        return self.subclass_with_self(self.worker_cls)

    @cached_property
    def WorkController(self) -> type[WorkController]:
        """As ``Worker``, inside of a program that goes on to own its process: started and stopped from its threads."""
        return self.subclass_with_self(self.work_controller_cls)

    def bugreport(self) -> str:
        """Versions, drivers and changed settings as text, without passwords; nothing is connected."""
        from umbel.bug_report import bugreport

        return bugreport(self.whole)

    # -- Celery's views --

    @cached_property
    def amqp(self) -> AMQP:
        """Queues and routes."""
        from umbel.application.amqp import AMQP

        return AMQP(self.whole)

    @cached_property
    def control(self) -> Control:
        """Remote control of workers: revoking tasks."""
        from umbel.control import Control

        return Control(self.whole)

    @cached_property
    def loader(self) -> Loader:
        """The modules of the application."""
        from umbel.application.loader import Loader

        return Loader(self.whole)

    @cached_property
    def log(self) -> Logging:
        """Sets up logging."""
        from umbel.application.logs import Logging

        return Logging(self.whole)

    def connection_for_write(self) -> Connection:
        """The broker, to see whether it is there and to ask for the size of queues."""
        from umbel.application.connections import Connection

        return Connection(self.whole)

    connection = connection_for_read = broker_connection = connection_for_write

    def connection_or_acquire(self, connection: Connection | None = None, pool: bool = True) -> Connection:
        """``connection``, or the broker."""
        return connection if connection is not None else self.connection_for_write()

    default_connection = connection_or_acquire

    def producer_or_acquire(self, producer: Producer | None = None) -> Producer:
        """``producer``, or one to be passed to ``apply_async``, which needs none."""
        from umbel.application.connections import Producer

        return producer if producer is not None else Producer(self.whole)

    default_producer = producer_or_acquire

    @property
    def pool(self) -> Pool:
        """``pool.acquire()`` is ``connection_for_write()``."""
        from umbel.application.connections import Pool

        return Pool(self.connection_for_write)

    @property
    def producer_pool(self) -> Pool:
        """``producer_pool.acquire()`` is ``producer_or_acquire()``."""
        from umbel.application.connections import Pool

        return Pool(self.producer_or_acquire)
