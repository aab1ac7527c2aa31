"""``celery.loaders.base``: what loaders have in common, over an application of Umbel."""

from __future__ import annotations

import datetime
import importlib
import json
import os
import re
from collections.abc import Callable, Iterable, Mapping
from re import Pattern
from types import ModuleType
from typing import TYPE_CHECKING, Any, cast

from umbel.compat.celery.utils import imports
from umbel.compat.celery.utils.serialization import strtobool
from umbel.errors import ConfigurationError

if TYPE_CHECKING:
    from umbel.app import Umbel

__all__ = ["BaseLoader"]

_TYPED = re.compile(r"\((\w+)\)")
_TYPES: dict[str, Callable[[str], Any]] = {
    "bool": strtobool,
    "float": float,
    "int": int,
    "json": json.loads,
    "str": str,
    "string": str,
}
_JSON = {"tuple": "json", "list": "json", "dict": "json"}


class BaseLoader:
    """Finds the configuration and the task modules of ``app``.

    The methods ``on_…`` are hooks of Celery's; Umbel sends signals at these moments instead (``worker_init``,
    ``worker_process_init``, ``task_prerun``, ``task_postrun``, ``worker_shutdown``).
    """

    builtin_modules: frozenset[str] = frozenset()
    configured = False
    override_backends: Mapping[str, Any] = {}
    worker_initialized = False

    def __init__(self, app: Umbel, **kwargs: Any) -> None:
        self.app = app
        self.task_modules: set[str] = set()

    @property
    def conf(self) -> Any:
        """The settings of the application."""
        return self.app.conf

    @property
    def default_modules(self) -> set[str]:
        """The modules that the settings name."""
        return {*self.builtin_modules, *self.app.conf.imports, *self.app.conf.include}

    def now(self, utc: bool = True) -> datetime.datetime:
        return datetime.datetime.now(datetime.UTC) if utc else datetime.datetime.now()

    # -- modules --

    def import_task_module(self, module: str) -> Any:
        """Import a module that has tasks, from the working directory too."""
        self.task_modules.add(module)
        return self.import_from_cwd(module)

    def import_module(self, module: str, package: str | None = None) -> ModuleType:
        return importlib.import_module(module, package=package)

    def import_from_cwd(self, module: str, imp: Callable[..., Any] | None = None, package: str | None = None) -> Any:
        """Import a module with the working directory on the path."""
        return imports.import_from_cwd(module, imp or self.import_module, package=package)

    def find_module(self, module: str) -> ModuleType | None:
        """Import a module; raises NotAPackage where a part of its name is no package."""
        return imports.find_module(module)

    def import_default_modules(self) -> list[Any]:
        """Import all modules that define tasks."""
        return [importlib.import_module(name) for name in self.app.import_task_modules()]

    def autodiscover_tasks(self, packages: Iterable[str], related_name: str | None = "tasks") -> None:
        """Import ``<package>.<related_name>`` of these packages where it exists."""
        self.app.autodiscover_tasks(list(packages), related_name, force=True)
        self.task_modules.update(f"{package}.{related_name}" if related_name else package for package in packages)

    # -- configuration --

    def config_from_object(self, obj: Any, silent: bool = False) -> bool:
        """Take settings from an object or the module that is named; whether there is one. Raises ConfigurationError."""
        try:
            self.app.config_from_object(obj, force=True)
        except ConfigurationError:
            if silent:
                return False
            raise
        return True

    def read_configuration(self, env: str = "CELERY_CONFIG_MODULE") -> Mapping[str, Any] | None:
        """The settings in the module that the variable ``env`` names; None where it is not set."""
        name = os.environ.get(env)
        if not name:
            return None
        self.configured = True
        module: ModuleType = self.import_from_cwd(name)
        return vars(module)

    def cmdline_config_parser(
        self,
        args: Iterable[str],
        namespace: str = "celery",
        re_type: Pattern[str] = _TYPED,
        extra_types: Mapping[str, Callable[[str], Any]] | None = None,
        override_types: Mapping[str, str] | None = None,
    ) -> dict[str, Any]:
        """Settings written on a command line: ``task.acks_late=yes``, ``worker.concurrency=(int)10``.

        A name that begins with a point belongs to ``namespace``. Text without a type stays text.
        Raises ValueError for one without ``=`` or of an unknown type.
        """
        types = {**_TYPES, **(extra_types or {})}
        other = _JSON if override_types is None else override_types

        def read(argument: str) -> tuple[str, Any]:
            key, equals, value = argument.partition("=")
            if not equals:
                raise ValueError(f"{argument!r} is no setting; write NAME=VALUE")
            name = (namespace + key if key.startswith(".") else key).lower().replace(".", "_")
            found = re_type.match(value)
            if found is None:
                return name, value
            kind = other.get(found[1], found[1])
            if kind not in types:
                raise ValueError(f"{argument!r} has the unknown type {found[1]}")
            made = types[kind](value[found.end() :])
            return name, tuple(cast("list[Any]", made)) if found[1] == "tuple" else made

        return dict(map(read, args))

    # -- hooks --

    def on_task_init(self, task_id: str, task: Any) -> None:
        """A task begins."""

    def on_process_cleanup(self) -> None:
        """A task has ended."""

    def on_worker_init(self) -> None:
        """A worker begins."""

    def on_worker_process_init(self) -> None:
        """A process of a worker begins."""

    def on_worker_shutdown(self) -> None:
        """A worker ends."""

    def init_worker(self) -> None:
        """Import all task modules, once."""
        if not self.worker_initialized:
            self.worker_initialized = True
            self.import_default_modules()
            self.on_worker_init()

    def init_worker_process(self) -> None:
        self.on_worker_process_init()

    def shutdown_worker(self) -> None:
        self.on_worker_shutdown()
