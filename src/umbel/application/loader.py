"""``app.loader``: Celery's view of the modules of an application."""

from __future__ import annotations

import datetime
import importlib
from types import ModuleType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from umbel.app import Umbel
    from umbel.config import Settings


class Loader:
    """Imports what an application is made of. Hooks of loaders are not called: signals are sent at the same moments."""

    def __init__(self, app: Umbel) -> None:
        self.app = app

    @property
    def conf(self) -> Settings:
        return self.app.conf

    @property
    def default_modules(self) -> set[str]:
        """What ``imports`` and ``include`` name."""
        return {*self.conf.imports, *self.conf.include}

    def import_default_modules(self) -> list[str]:
        """Import all modules with tasks; their names."""
        return self.app.import_task_modules()

    def import_module(self, module: str, package: str | None = None) -> ModuleType:
        return importlib.import_module(module, package=package)

    def import_task_module(self, module: str) -> ModuleType:
        return self.import_module(module)

    def config_from_object(self, obj: Any, silent: bool = False) -> bool:
        """Take settings from an object or a module; whether there was one."""
        self.app.config_from_object(obj, silent=silent, force=True)
        return True

    def autodiscover_tasks(self, packages: Any, related_name: str | None = "tasks") -> None:
        """Import the task modules of packages now."""
        self.app.autodiscover_tasks(packages, related_name, force=True)

    def now(self, utc: bool = True) -> datetime.datetime:
        """The present moment in UTC, or by the local clock and without a zone."""
        return datetime.datetime.now(datetime.UTC if utc else None)
