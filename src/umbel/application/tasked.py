"""The second layer of an application: its tasks, and the modules that they come from."""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Iterable
from typing import TYPE_CHECKING, Any, Literal, ParamSpec, TypeVar, cast, overload

from umbel.application.configured import AppSettings, ConfiguredApp
from umbel.current import get_current_task
from umbel.decorating import add_task, make_task
from umbel.discovery import Discovery, import_modules
from umbel.errors import NotFinalized
from umbel.middleware import MiddlewareStack
from umbel.naming import default_name, task_name
from umbel.registry import TaskRegistry, shared_makers
from umbel.signals import Signal
from umbel.signals import import_modules as import_modules_signal
from umbel.task import Task

if TYPE_CHECKING:
    from umbel.decorating import BoundTaskDecorator, TaskDecorator
    from umbel.middleware import Middleware
    from umbel.task import AsyncTask

P = ParamSpec("P")
R = TypeVar("R")


class TaskedApp(ConfiguredApp):
    """An application that has tasks."""

    def __init__(
        self,
        main: str | None,
        conf: AppSettings,
        *,
        task_cls: type[Task[..., Any]] | str | None,
        tasks: TaskRegistry | None,
        autofinalize: bool,
        strict_typing: bool,
        middleware: Iterable[Middleware],
    ) -> None:
        super().__init__(main, conf)
        self.strict_typing = strict_typing
        self.finalized = False
        self.imported_as: str | None = None
        """By which name ``-A`` found it; None when it came otherwise."""
        self.on_after_finalize = Signal(name="on_after_finalize")
        """All tasks are there and have their settings. Sender: the application."""
        self._autofinalize = autofinalize
        self._base = task_cls
        self.registered = tasks if tasks is not None else TaskRegistry()
        self.middleware = MiddlewareStack(self.whole)
        self.middleware.add(*middleware)
        self._discoveries: list[Discovery] = []

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
            return make_task(self.whole, decorated, bind=bind, **options)

        return decorate(*functions) if functions else decorate

    def make_task(self, function: Callable[..., Any], **options: Any) -> Any:
        """What ``task`` does, as a function."""
        return make_task(self.whole, function, **options)

    def register_task(self, task: Task[P, R] | type[Task[P, R]], **options: Any) -> Task[P, R]:
        """Add a task written as a class; returns its one object."""
        made = task() if isinstance(task, type) else task
        add_task(self.whole, made, made.name or default_name(type(made), self.main), options)
        return made

    def gen_task_name(self, name: str, module: str) -> str:
        """The name of a task that is given none, from its function's name and module; override it to name tasks in
        another way."""
        return task_name(name, module, self.main)

    def bind_task(self, task: Task[..., Any]) -> None:
        """Give a task its annotations and settings."""
        task.annotate()
        task.bind(self.whole)

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
        if not self.finalized:
            self.finalize(auto=True)
        return self.registered

    def find_task(self, name: str) -> Task[..., Any] | None:
        """The task of this name, if it is known here."""
        return (self.tasks if self._autofinalize else self.registered).get(name)

    def finalize(self, auto: bool = False) -> None:
        """Read the settings, add the shared tasks and give every task its settings. Idempotent; done on first use.

        ``auto``: somebody uses the tasks. Raises NotFinalized for that with ``autofinalize=False``.
        """
        if self.finalized:
            return
        if auto and not self._autofinalize:
            raise NotFinalized(
                f"application {self.main} has autofinalize=False: call its finalize() before its tasks are used"
            )
        from umbel.canvas.builtin import add_builtin_tasks

        self.configure()
        with self._lock:
            self._tell_of_settings()
            if self.finalized:
                return
            for make in shared_makers():
                make(self.whole)
            add_builtin_tasks(self.whole)
            for task in list(self.registered.values()):
                self.bind_task(task)
            self.finalized = True
        self.on_after_finalize.send(sender=self)

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
