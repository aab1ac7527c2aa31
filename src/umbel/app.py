"""The application: configuration, tasks, and the drivers of its broker and result store."""

from __future__ import annotations

import datetime
import logging
import os
import threading
import uuid
import weakref
from collections.abc import Callable, Coroutine, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal, ParamSpec, Self, TypeVar, cast, overload

from umbel import result
from umbel.addressing import Routes
from umbel.clock import find_timezone, timestamp
from umbel.codecs import accept_set
from umbel.config import Settings
from umbel.current import forget_app, get_current_task, set_default_app
from umbel.decorating import add_task, make_task
from umbel.discovery import Discovery, annotate, import_modules
from umbel.errors import ConfigurationError
from umbel.middleware import MiddlewareStack
from umbel.opening import open_backend, open_broker
from umbel.publishing import adopt, publish, send
from umbel.registry import TaskRegistry, shared_makers
from umbel.sending import prepare, publish_deadline
from umbel.signals import import_modules as import_modules_signal
from umbel.task import Task, default_name

if TYPE_CHECKING:
    from umbel.backends.base import Backend
    from umbel.bootsteps import Step
    from umbel.brokers.base import Broker
    from umbel.canvas.signature import Signature
    from umbel.control import Control
    from umbel.decorating import BoundTaskDecorator, TaskDecorator
    from umbel.groups import GroupResult, ResultSet
    from umbel.message import Message
    from umbel.middleware import Middleware
    from umbel.queues import Queue
    from umbel.result import AsyncResult
    from umbel.task import AsyncTask

P = ParamSpec("P")
R = TypeVar("R")

log = logging.getLogger("umbel.app")

_apps: weakref.WeakSet[Umbel] = weakref.WeakSet()


def live_apps() -> list[Umbel]:
    """The applications of this process."""
    return list(_apps)


class Umbel:
    """An application.

    ``main``: name that stands for ``__main__`` in task names. ``broker``, ``backend``: URLs. Any setting may be given
    by its lower-case name. ``include``: modules to import in workers. ``config_source``, ``namespace``: as
    ``config_from_object``. ``changes``: settings as a dict. ``task_cls``: base class of tasks. ``strict_typing``: check
    arguments against the function at each call. ``middleware``: around publishing and running, outermost first; more
    by ``app.middleware.add``. ``set_as_current``: be the current application from now on.
    """

    def __init__(
        self,
        main: str | None = None,
        *,
        broker: str | list[str] | None = None,
        backend: str | None = None,
        include: Sequence[str] | None = None,
        config_source: Any = None,
        namespace: str | None = None,
        changes: Mapping[str, Any] | None = None,
        set_as_current: bool = True,
        task_cls: type[Task[..., Any]] | str | None = None,
        tasks: TaskRegistry | None = None,
        autofinalize: bool = True,
        strict_typing: bool = True,
        middleware: Iterable[Middleware] = (),
        **settings: Any,
    ) -> None:
        self.main = main
        self.strict_typing = strict_typing
        self.finalized = False
        self.imported_as: str | None = None
        """By which name ``-A`` found it; None when it came otherwise."""
        self._autofinalize = autofinalize
        self._base = task_cls
        self.registered = tasks if tasks is not None else TaskRegistry()
        self.middleware = MiddlewareStack(self)
        self.middleware.add(*middleware)
        self._discoveries: list[Discovery] = []
        self._lock = threading.RLock()
        self._thread = threading.local()
        given = {"broker_url": broker, "result_backend": backend, "include": include}
        values = {**(changes or {}), **settings, **{k: v for k, v in given.items() if v is not None}}
        self.conf = Settings(values, pyproject=True)
        if config_source is not None:
            self.conf.from_object(config_source, namespace=namespace)
        self.routes = Routes(self.conf)
        self.steps: dict[str, set[type[Step] | str]] = {"worker": set(), "consumer": set()}
        """Boot steps to add to the ``"worker"`` and to its ``"consumer"``: classes, or ``"module:Class"``."""
        self.user_options: dict[str, set[Any]] = {"worker": set()}
        """More options of ``umbel worker``: ``click.Option`` objects or ``click.option(…)``; boot steps get them."""
        self._forget_drivers()
        _apps.add(self)
        if set_as_current:
            set_default_app(self)

    def _forget_drivers(self) -> None:
        self._broker: Broker | None = None
        self._backend: Backend | None = None
        self._declared: set[str] = set()
        self._accept: tuple[Any, frozenset[str]] | None = None
        self._timezone: tuple[Any, bool, datetime.tzinfo] | None = None

    # -- configuration --

    def config_from_object(
        self, obj: Any, silent: bool = False, force: bool = False, namespace: str | None = None
    ) -> None:
        """Take settings from an object, module or its name; read when the first setting is, at once with ``force``."""
        self.conf.from_object(obj, namespace=namespace, silent=silent)
        if force:
            self.conf.load()

    def config_from_envvar(self, variable_name: str, silent: bool = False, force: bool = False) -> bool:
        """Take settings from the module that an environment variable names.

        Returns whether the variable is set; raises ConfigurationError when it is not, unless ``silent``.
        """
        name = os.environ.get(variable_name)
        if not name:
            if silent:
                return False
            raise ConfigurationError(f"the environment variable {variable_name} does not name a configuration module")
        self.config_from_object(name, silent=silent, force=force)
        return True

    def add_defaults(self, values: Mapping[str, Any] | Callable[[], Mapping[str, Any]]) -> None:
        """Set defaults, before which every other source of settings goes."""
        self.conf.add_defaults(values() if callable(values) else values)

    @property
    def timezone(self) -> datetime.tzinfo:
        """The time zone of naive times. Raises ConfigurationError for an unknown name."""
        zone, utc = self.conf.timezone, self.conf.enable_utc
        known = self._timezone
        if known is None or known[0] != zone or known[1] != utc:
            known = self._timezone = zone, utc, find_timezone(zone, utc)
        return known[2]

    def now(self) -> datetime.datetime:
        """The present moment in the application's time zone."""
        return datetime.datetime.now(self.timezone)

    def date_done(self) -> str:
        """The present moment as results note it: ISO 8601 with offset."""
        return timestamp() if self.conf.enable_utc else self.now().isoformat()

    def uses_utc_timezone(self) -> bool:
        return str(self.timezone) == "UTC"

    # -- tasks --

    @overload
    def task(self, function: Callable[P, Coroutine[Any, Any, R]], /) -> AsyncTask[P, R]: ...
    @overload
    def task(self, function: Callable[P, R], /) -> Task[P, R]: ...
    @overload
    def task(self, *, bind: Literal[True], **options: Any) -> BoundTaskDecorator: ...
    @overload
    def task(self, *, bind: Literal[False] = False, **options: Any) -> TaskDecorator: ...
    def task(self, *functions: Any, bind: bool = False, **options: Any) -> Any:
        """Make a task of a function: ``@app.task`` or ``@app.task(name=…, bind=True, …)``."""

        def decorate(decorated: Callable[..., Any]) -> Any:
            return make_task(self, decorated, bind=bind, **options)

        return decorate(*functions) if functions else decorate

    def make_task(self, function: Callable[..., Any], **options: Any) -> Any:
        """What ``task`` does, as a function."""
        return make_task(self, function, **options)

    def register_task(self, task: Task[P, R] | type[Task[P, R]], **options: Any) -> Task[P, R]:
        """Add a task written as a class; returns its one object."""
        made = task() if isinstance(task, type) else task
        add_task(self, made, made.name or default_name(type(made), self.main), options)
        return made

    def bind_task(self, task: Task[..., Any]) -> None:
        """Give a task its annotations and settings."""
        annotate(task, self.conf.task_annotations)
        task.bind(self)

    @property
    def Task(self) -> type[Task[..., Any]]:
        """Base class of this application's tasks."""
        base = self._base
        if isinstance(base, str):
            from umbel.config.loading import load_object

            base = self._base = cast("type[Task[..., Any]]", load_object(base))
        return base or Task

    @property
    def tasks(self) -> TaskRegistry:
        """The tasks by name; ``app.tasks[name]`` raises NotRegistered."""
        if not self.finalized and self._autofinalize:
            self.finalize()
        return self.registered

    def finalize(self) -> None:
        """Add the shared tasks and give every task its settings. Idempotent; done on first use."""
        if self.finalized:
            return
        from umbel.canvas.builtin import add_builtin_tasks

        with self._lock:
            if self.finalized:
                return
            for make in shared_makers():
                make(self)
            add_builtin_tasks(self)
            for task in list(self.registered.values()):
                self.bind_task(task)
            self.finalized = True

    def autodiscover_tasks(
        self,
        packages: Iterable[str] | Callable[[], Iterable[str]] | None = None,
        related_name: str | None = "tasks",
        force: bool = False,
    ) -> None:
        """Import ``<package>.<related_name>`` of these packages (default: Django's applications) in workers; at once
        with ``force``."""
        discovery = Discovery(packages if packages is None or callable(packages) else tuple(packages), related_name)
        self._discoveries.append(discovery)
        if force:
            import_modules(self.conf, [discovery])

    def import_task_modules(self) -> list[str]:
        """Import the modules that define the tasks; their names. Raises what they and receivers of the signal raise."""
        for _, response in import_modules_signal.send(sender=self):
            if isinstance(response, BaseException):
                raise response
        return import_modules(self.conf, self._discoveries)

    @property
    def current_task(self) -> Task[..., Any] | None:
        """The task that runs here, or None."""
        return get_current_task()

    current_worker_task = current_task

    # -- queues and routes --

    def queues(self) -> dict[str, Queue]:
        """The configured queues by name, and those that came into use since."""
        return self.routes.queues()

    def consume_queues(self, select: Sequence[str] | None = None, exclude: Sequence[str] | None = None) -> list[Queue]:
        """The queues for a worker: the configured ones, or those selected, without those excluded.

        Raises UnroutableMessage for one that is unknown where ``task_create_missing_queues`` is off.
        """
        return self.routes.consume(select, exclude)

    # -- drivers --

    @property
    def broker(self) -> Broker:
        """The broker's driver, opened on first use."""
        if self._broker is None:
            with self._lock:
                self._broker = self._broker or open_broker(self.conf)
        return self._broker

    @property
    def backend(self) -> Backend:
        """The result store's driver, opened on first use."""
        if self._backend is None:
            with self._lock:
                self._backend = self._backend or open_backend(self.conf)
        return self._backend

    def accept(self) -> frozenset[str]:
        """The content types that may be decoded here."""
        names = self.conf.accept_content
        known = self._accept
        if known is None or known[0] is not names:
            known = self._accept = names, accept_set(names)
        return known[1]

    def close(self) -> None:
        """Close all connections; they are opened again on use."""
        with self._lock:
            broker, backend = self._broker, self._backend
            self._forget_drivers()
        if broker is not None:
            broker.close()
        if backend is not None:
            backend.close()
        forget_app(self)

    def after_fork(self) -> None:
        """In a forked child: forget connections without touching the parent's."""
        self._lock = threading.RLock()
        self._thread = threading.local()
        for driver in (self._broker, self._backend):
            if driver is not None:
                driver.after_fork()

    def set_current(self) -> None:
        """Be the current application."""
        set_default_app(self)

    set_default = set_current

    # -- sending --

    def publish(self, messages: Sequence[Message], timeout: float | None = None) -> None:
        """Send messages that ``prepare`` made; returns when the broker has them for sure.

        ``timeout`` (default ``publish_timeout``) is the one deadline in seconds. Raises PublishTimeout,
        OperationalError, UnroutableMessage.
        """
        publish(self, self._declared, messages, timeout)

    def adopt(self, sent: AsyncResult[Any] | GroupResult, options: Mapping[str, Any]) -> None:
        """Note a sent task as a child of the one that runs here."""
        adopt(sent, options)

    def reply_address(self) -> str:
        """Where tasks sent by this thread answer to; a name of the thread where the result store needs none."""
        address = self.backend.reply_to
        if address:
            return address
        known: str | None = getattr(self._thread, "oid", None)
        if known is None:
            known = self._thread.oid = str(uuid.uuid4())
        return known

    def send_task(
        self,
        name: str,
        args: Sequence[Any] | None = None,
        kwargs: Mapping[str, Any] | None = None,
        **options: Any,
    ) -> AsyncResult[Any]:
        """Send a task by its name, known here or not. Options and errors as of ``Task.apply_async``."""
        message = self._by_name(name, args, kwargs, options)
        sent_id = send(self, self.tasks.get(name), message, publish_deadline(self, options))
        sent = self.AsyncResult(sent_id, task_name=name)
        self.adopt(sent, options)
        return sent

    async def asend_task(
        self,
        name: str,
        args: Sequence[Any] | None = None,
        kwargs: Mapping[str, Any] | None = None,
        **options: Any,
    ) -> AsyncResult[Any]:
        """As ``send_task``; the event loop is not blocked meanwhile."""
        import asyncio

        message = self._by_name(name, args, kwargs, options)
        timeout = publish_deadline(self, options)
        sent_id = await asyncio.to_thread(send, self, self.tasks.get(name), message, timeout)
        sent = self.AsyncResult(sent_id, task_name=name)
        self.adopt(sent, options)
        return sent

    def _by_name(self, name: str, args: Any, kwargs: Any, options: Mapping[str, Any]) -> Message:
        if self.conf.task_always_eager:
            log.warning("task_always_eager has no effect on send_task: task=%s", name)
        return prepare(self, name, args, kwargs, options)

    def send_many(self, signatures: Iterable[Mapping[str, Any]], **options: Any) -> list[Any]:
        """Send many calls in one round trip; their results in the same order."""
        from umbel.canvas.signature import send_many

        return send_many(self, signatures, **options)

    def signature(self, task: Any, *args: Any, **kwargs: Any) -> Signature:
        """A call of a task as data, for this application."""
        from umbel.canvas.signature import signature

        return signature(task, *args, **{**kwargs, "app": self})

    @property
    def control(self) -> Control:
        """Remote control of workers: revoking tasks."""
        from umbel.control import Control

        return Control(self)

    # -- results --

    @property
    def AsyncResult(self) -> type[AsyncResult[Any]]:
        """``app.AsyncResult(id)``: the result of a task by its id."""
        return result.bound(result.AsyncResult, self)

    @property
    def GroupResult(self) -> type[GroupResult]:
        """``app.GroupResult(id, results)``: the results of a group; ``.restore(id)`` finds a kept one."""
        return result.bound(result.GroupResult, self)

    @property
    def ResultSet(self) -> type[ResultSet]:
        """``app.ResultSet(results)``: some results together."""
        return result.bound(result.ResultSet, self)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"<Umbel {self.main or 'app'} at {id(self):#x}>"
