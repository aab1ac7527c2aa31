"""The modules that define an application's tasks: named, discovered, imported; and options set on tasks."""

from __future__ import annotations

import importlib
import importlib.util
import sys
import types
from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING, Any, cast

from msgspec import Struct

if TYPE_CHECKING:
    from umbel.config import Settings
    from umbel.task import Task


class Discovery(Struct, frozen=True):
    """One call of ``autodiscover_tasks``. ``packages`` None stands for Django's installed applications."""

    packages: Iterable[str] | Callable[[], Iterable[str]] | None
    related_name: str | None

    def modules(self) -> list[str]:
        """The modules to import: ``<package>.<related_name>`` where it exists."""
        packages = self.packages() if callable(self.packages) else self.packages
        names = _django_applications() if packages is None else packages
        if not self.related_name:
            return list(names)
        return [f"{name}.{self.related_name}" for name in names if _has(name, self.related_name)]


def _django_applications() -> list[str]:
    django = sys.modules.get("django.apps")
    return [config.name for config in django.apps.get_app_configs()] if django is not None else []


def _has(package: str, name: str) -> bool:
    module = importlib.import_module(package)
    return hasattr(module, "__path__") and importlib.util.find_spec(f"{package}.{name}") is not None


def import_modules(conf: Settings, discoveries: Iterable[Discovery]) -> list[str]:
    """Import what ``imports``, ``include`` and the discoveries name; returns the names. Import errors are passed on."""
    names = [*conf.imports, *conf.include]
    for discovery in discoveries:
        names += discovery.modules()
    names = list(dict.fromkeys(names))
    for name in names:
        importlib.import_module(name)
    return names


def annotate(task: Task[..., Any], annotations: Any) -> None:
    """Set the attributes that ``task_annotations`` gives for this task, those for ``"*"`` first."""
    if not annotations:
        return
    sources = cast("list[Any]", annotations if isinstance(annotations, (list, tuple)) else [annotations])
    for source in sources:
        if isinstance(source, Mapping):
            table = cast("Mapping[str, Mapping[str, Any]]", source)
            for name in ("*", task.name):
                set_options(task, table.get(name) or {})
        else:
            for method in ("annotate_any", "annotate"):
                answer = getattr(source, method, None)
                if answer is not None:
                    set_options(task, (answer() if method == "annotate_any" else answer(task)) or {})


def set_options(task: Task[..., Any], options: Mapping[str, Any]) -> None:
    """Set attributes of a task; functions become its methods, except those that compute keys from arguments."""
    for name, value in options.items():
        if name in ("autoretry_for", "dont_autoretry_for", "throws"):
            several = isinstance(value, (list, tuple, set, frozenset))
            value = tuple(cast("list[Any]", value)) if several else (value,)
        elif isinstance(value, types.FunctionType) and not name.endswith("_key"):
            value = types.MethodType(value, task)
        setattr(task, name, value)
