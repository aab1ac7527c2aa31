"""``celery.app.base``: the application of a Celery project."""

from __future__ import annotations

import os
import platform
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar

from umbel.app import Umbel
from umbel.compat.finder import MIRROR
from umbel.errors import ConfigurationError

if TYPE_CHECKING:
    from umbel.registry import TaskRegistry
    from umbel.task import Task

DEFAULTS: Mapping[str, Any] = {"broker_url": "amqp://guest:guest@localhost:5672//", "mixed_fleet": True}
"""Where Celery's defaults are as safe as Umbel's, and a project may rely on them. ``mixed_fleet``: Celery's own workers
may share the queues."""

PARTS = {
    "amqp": "celery.app.amqp:AMQP",
    "backend_cls": None,
    "control": "celery.app.control:Control",
    "events": "celery.app.events:Events",
    "log": "celery.app.log:Logging",
}
"""Arguments by which a Celery project puts its own class in place of a part of the application, with Celery's own."""

LOADERS = {
    "app": False,
    "celery.loaders.app:AppLoader": False,
    "default": True,
    "celery.loaders.default:Loader": True,
}
"""Whether the loader of that name reads a configuration module."""

DJANGO = "celery.fixups.django:fixup"
TASK = "celery.app.task:Task"
REGISTRY = "celery.app.registry:TaskRegistry"


class Celery(Umbel):
    """Umbel's application, made as Celery's is.

    Arguments are Celery's. ``loader``: ``"app"``, or ``"default"`` to read the module that ``CELERY_CONFIG_MODULE``
    names (``celeryconfig``). ``fixups``: functions called with the application, or their dotted names; by default the
    one that makes it fit for Django where that is used. Settings that neither Umbel nor Celery knows are accepted, for
    other packages read them from ``app.conf``.

    Where Celery's default loses tasks (``task_acks_late``, ETAs and countdowns in the worker's memory), Umbel's holds
    unless the project sets the option itself. Raises ConfigurationError for a class of the project's own in the place
    of ``amqp``, ``events``, ``log``, ``control``, ``loader`` or ``backend_cls``.

    Subclasses may set ``task_cls``, ``registry_cls``, ``loader_cls`` and ``builtin_fixups``, which hold where no
    argument says otherwise.
    """

    SYSTEM = platform.system()
    task_cls: Any = TASK
    """Base class of tasks, or its dotted name."""
    registry_cls: Any = REGISTRY
    """Class of ``app.tasks``, or its dotted name: a ``TaskRegistry``."""
    builtin_fixups: ClassVar[set[Any]] = {DJANGO}
    """The default of ``fixups``."""
    loader_cls: Any = None
    """The default of ``loader``."""
    amqp_cls: Any = PARTS["amqp"]
    control_cls: Any = PARTS["control"]
    log_cls: Any = PARTS["log"]
    backend_cls: Any = None

    prelude: ClassVar[str] = "import umbel.compat.auto"

    def __init__(
        self,
        main: str | None = None,
        loader: Any = None,
        backend: str | None = None,
        amqp: Any = None,
        events: Any = None,
        log: Any = None,
        control: Any = None,
        set_as_current: bool = True,
        tasks: TaskRegistry | None = None,
        broker: str | list[str] | None = None,
        include: Sequence[str] | None = None,
        changes: Mapping[str, Any] | None = None,
        config_source: Any = None,
        fixups: Iterable[Any] | None = None,
        task_cls: type[Task[..., Any]] | str | None = None,
        autofinalize: bool = True,
        namespace: str | None = None,
        strict_typing: bool = True,
        config_source_silent: bool = False,
        **kwargs: Any,
    ) -> None:
        _refuse_own_parts(
            {
                "amqp": amqp or self.amqp_cls,
                "events": events,
                "log": log or self.log_cls,
                "control": control or self.control_cls,
                "backend_cls": kwargs.pop("backend_cls", None) or self.backend_cls,
            }
        )
        given = loader or kwargs.pop("loader_cls", None) or self.loader_cls or os.environ.get("CELERY_LOADER")
        reads_config = _reads_config(given or "app")
        super().__init__(
            main,
            broker=broker,
            backend=backend,
            include=include,
            changes=changes,
            set_as_current=set_as_current,
            task_cls=_task_class(task_cls or self.task_cls, fixups is None),
            tasks=tasks if self.registry_cls == REGISTRY or tasks is not None else _loaded(self.registry_cls)(),
            autofinalize=autofinalize,
            strict_typing=strict_typing,
            foreign_settings=kwargs.pop("foreign_settings", None) or ["*"],
            **kwargs,
        )
        self.conf.add_defaults(DEFAULTS)
        if config_source is not None:
            self.config_from_object(config_source, silent=config_source_silent, namespace=namespace)
        elif reads_config:
            named = os.environ.get("CELERY_CONFIG_MODULE")
            self.config_from_object(named or "celeryconfig", silent=not named)
        for fixup in self.builtin_fixups if fixups is None else fixups:
            _loaded(fixup)(self)
        self.on_init()

    def config_from_cmdline(self, argv: Iterable[str], namespace: str = "celery") -> None:
        """Take settings written as on Celery's command line: ``task.acks_late=yes``, ``worker.concurrency=(int)10``.

        A name that begins with a point belongs to ``namespace``. Raises ValueError, ConfigurationError.
        """
        from umbel.compat.celery.loaders.base import BaseLoader

        self.conf.update(BaseLoader(self).cmdline_config_parser(argv, namespace))

    def on_init(self) -> None:
        """For subclasses: called when the application has been made."""


def _task_class(given: Any, fits_django: bool) -> Any:
    if given not in (None, TASK):
        return given
    if fits_django and os.environ.get("DJANGO_SETTINGS_MODULE"):
        return "umbel.compat.celery.contrib.django.task:DjangoTask"
    return None


def _refuse_own_parts(parts: Mapping[str, Any]) -> None:
    for name, given in parts.items():
        if given is not None and given != PARTS[name]:
            raise ConfigurationError(
                f"Celery({name}={given!r}): Umbel does not let a project replace this part of the application; "
                f"leave the argument out"
            )


def _reads_config(loader: Any) -> bool:
    name = loader if isinstance(loader, str) else f"{loader.__module__.removeprefix(MIRROR)}:{loader.__qualname__}"
    module, dot, attribute = name.rpartition(".")
    spelt = f"{module}:{attribute}" if dot and ":" not in name else name
    if spelt not in LOADERS:
        raise ConfigurationError(
            f"the loader {loader!r} cannot be used: Umbel has `app` and `default`; what a loader does at the start of "
            f"workers and tasks is done by signals (docs/how-to/signals.md)"
        )
    return LOADERS[spelt]


def _loaded(given: Any) -> Any:
    """What a dotted name means; Celery's own names are those of the mirror."""
    if not isinstance(given, str):
        return given
    from umbel.config.loading import load_object

    return load_object(MIRROR + given if given.startswith("celery.") else given)
