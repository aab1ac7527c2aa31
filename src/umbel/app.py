"""The application: settings, tasks, and the drivers of its broker and result store; sending tasks, finding results."""

from __future__ import annotations

import logging
import threading
import weakref
from collections.abc import Iterable, Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any, ClassVar, Self

from umbel import result
from umbel.application.configured import AppSettings
from umbel.application.equipped import EquippedApp
from umbel.codecs import accept_set
from umbel.current import forget_app, set_default_app
from umbel.opening import open_backend, open_broker
from umbel.publishing import adopt, publish, send
from umbel.sending import aprepare, publish_deadline
from umbel.templates import Templates

if TYPE_CHECKING:
    from umbel.backends.base import Backend
    from umbel.brokers.base import Broker
    from umbel.canvas.signature import Signature
    from umbel.groups import GroupResult, ResultSet
    from umbel.message import Message
    from umbel.middleware import Middleware
    from umbel.registry import TaskRegistry
    from umbel.result import AsyncResult
    from umbel.task import Task

log = logging.getLogger("umbel.app")

_apps: weakref.WeakSet[Umbel] = weakref.WeakSet()


def live_apps() -> list[Umbel]:
    """The applications of this process."""
    return list(_apps)


class Umbel(EquippedApp):
    """An application.

    ``main``: name that stands for ``__main__`` in task names. ``broker``, ``backend``: URLs. Any setting may be given
    by its lower-case name. ``include``: modules to import in workers. ``config_source``, ``namespace``: as
    ``config_from_object``. ``changes``: settings as a dict. ``task_cls``: base class of tasks. ``strict_typing``: check
    arguments against the function at each call. ``middleware``: around publishing and running, outermost first; more
    by ``app.middleware.add``. ``foreign_settings``: names, or globs, of settings that other packages read from
    ``app.conf``; all others that are unknown are errors. ``set_as_current``: be the current application from now on.
    """

    prelude: ClassVar[str] = ""
    """Python statements that a new interpreter has to run before it imports the application."""

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
        foreign_settings: Iterable[str] = (),
        **settings: Any,
    ) -> None:
        given = {"broker_url": broker, "result_backend": backend, "include": include}
        values = {**(changes or {}), **settings, **{k: v for k, v in given.items() if v is not None}}
        conf = AppSettings(values, pyproject=True, foreign=foreign_settings)
        if config_source is not None:
            conf.from_object(config_source, namespace=namespace)
        super().__init__(
            main,
            conf,
            task_cls=task_cls,
            tasks=tasks,
            autofinalize=autofinalize,
            strict_typing=strict_typing,
            middleware=middleware,
        )
        self.templates = Templates(self)
        self._forget_drivers()
        _apps.add(self)
        if set_as_current:
            set_default_app(self)

    def _forget_drivers(self) -> None:
        self._broker: Broker | None = None
        self._backend: Backend | None = None
        self._declared: set[str] = set()
        self._accept: tuple[Any, frozenset[str]] | None = None

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

    def close_connections(self) -> None:
        """Close all connections, at the end of a process: no time is spent on what ends with it."""
        for driver in (self._broker, self._backend):
            if driver is not None:
                driver.close()

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
        """In a forked child: forget connections without touching the parent's, and say so."""
        self.forget_connections()
        self.on_after_fork.send(sender=self)

    def forget_connections(self) -> None:
        """In a forked child: forget connections without touching the parent's."""
        self._lock = threading.RLock()
        self._forget_identity()
        for driver in (self._broker, self._backend):
            if driver is not None:
                driver.after_fork()

    def set_current(self) -> None:
        """Be the current application."""
        set_default_app(self)

    set_default = set_current

    def use_drivers(self, broker: Broker, backend: Backend) -> None:
        """Go on with these instead of those that the settings name, until ``close``."""
        with self._lock:
            self._broker, self._backend = broker, backend

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
        return self.backend.reply_to or self.thread_oid

    def send_task(
        self,
        name: str,
        args: Sequence[Any] | None = None,
        kwargs: Mapping[str, Any] | None = None,
        **options: Any,
    ) -> AsyncResult[Any]:
        """Send a task by its name, known here or not. Options and errors as of ``Task.apply_async``."""
        self._warn_of_eager(name)
        message = self.templates.message(name, args, kwargs, options)
        sent_id = send(self, self.find_task(name), message, publish_deadline(self, options))
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

        self._warn_of_eager(name)
        message = await aprepare(self, name, args, kwargs, options)
        timeout = publish_deadline(self, options)
        sent_id = await asyncio.to_thread(send, self, self.find_task(name), message, timeout)
        sent = self.AsyncResult(sent_id, task_name=name)
        self.adopt(sent, options)
        return sent

    def _warn_of_eager(self, name: str) -> None:
        if self.conf.task_always_eager:
            log.warning("task_always_eager has no effect on send_task: task=%s", name)

    def send_many(self, signatures: Iterable[Mapping[str, Any]], **options: Any) -> list[Any]:
        """Send many calls in one round trip; their results in the same order."""
        from umbel.canvas.signature import send_many

        return send_many(self, signatures, **options)

    async def asend_many(self, signatures: Iterable[Mapping[str, Any]], **options: Any) -> list[Any]:
        """As ``send_many``; the event loop is not blocked meanwhile."""
        from umbel.loops import off_the_loop

        return await off_the_loop(partial(self.send_many, signatures, **options))

    def signature(self, task: Any, *args: Any, **kwargs: Any) -> Signature:
        """A call of a task as data, for this application."""
        from umbel.canvas.signature import signature

        return signature(task, *args, **{**kwargs, "app": self})

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
