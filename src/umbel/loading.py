"""``-A``: the application that a command line names, found as Celery finds it.

``module``, ``module:attribute`` or ``package``. Without an attribute: ``app``, ``celery`` or ``umbel`` of the module,
else the only application in it; of a package also those of its submodules ``celery`` and ``umbel``.
"""

from __future__ import annotations

import importlib
import importlib.util
import os
import sys
from types import ModuleType
from typing import Any

from umbel.app import Umbel
from umbel.errors import ConfigurationError

ATTRIBUTES = ("app", "celery", "umbel")
SUBMODULES = ("celery", "umbel")


def find_app(spec: str) -> Umbel:
    """The application that ``spec`` names; the working directory is on the path meanwhile and stays there.

    Raises ConfigurationError saying what was looked for; errors inside the imported modules are passed on.
    """
    app = _find(spec)
    app.imported_as = spec
    return app


def _find(spec: str) -> Umbel:
    here = os.getcwd()
    if here not in sys.path and "" not in sys.path:
        sys.path.insert(0, here)
    name, colon, attribute = spec.partition(":")
    if name.endswith(".py") or "/" in name:
        raise ConfigurationError(f"{spec!r} is a file; name its module, such as proj.tasks or proj.tasks:app")
    module, rest = _import_longest(name, spec)
    if colon or rest:
        return _resolve(module, attribute if colon else rest, spec)
    found = _of_module(module, spec)
    if found is None and hasattr(module, "__path__"):
        for submodule in SUBMODULES:
            full = f"{module.__name__}.{submodule}"
            if importlib.util.find_spec(full) is not None:
                found = _of_module(importlib.import_module(full), spec)
            if found is not None:
                break
    if found is None:
        raise ConfigurationError(
            f"module {module.__name__} has no application: none of {', '.join(ATTRIBUTES)} and no other Umbel object; "
            f"name it as {spec}:ATTRIBUTE"
        )
    return found


def _import_longest(name: str, spec: str) -> tuple[ModuleType, str]:
    """The module ``name``, or, where the last part is no module, the one before and that part."""
    try:
        return importlib.import_module(name), ""
    except ModuleNotFoundError as error:
        missing = error.name or ""
        if not name or not (name == missing or name.startswith(missing + ".")):
            raise
        parent, dot, last = name.rpartition(".")
        if not dot or missing != name:
            raise ConfigurationError(f"cannot find the application {spec!r}: there is no module {missing}") from error
    module = importlib.import_module(parent)
    if not hasattr(module, last):
        raise ConfigurationError(f"cannot find the application {spec!r}: {parent} has no {last!r}")
    return module, last


def _resolve(module: ModuleType, attribute: str, spec: str) -> Umbel:
    target: Any = module
    for part in (attribute or "app").split("."):
        if not hasattr(target, part):
            raise ConfigurationError(f"cannot find the application {spec!r}: {module.__name__} has no {part!r}")
        target = getattr(target, part)
    if isinstance(target, ModuleType):
        found = _of_module(target, spec)
        if found is not None:
            return found
    if not isinstance(target, Umbel):
        raise ConfigurationError(f"{spec!r} is {type(target).__name__}, not an Umbel application")
    return target


def _of_module(module: ModuleType, spec: str) -> Umbel | None:
    for name in ATTRIBUTES:
        found = getattr(module, name, None)
        if isinstance(found, Umbel):
            return found
    others = {id(value): value for value in vars(module).values() if isinstance(value, Umbel)}
    if len(others) > 1:
        raise ConfigurationError(f"module {module.__name__} has several applications; name one as {spec}:ATTRIBUTE")
    return next(iter(others.values()), None)


def name_app(app: Umbel, pool: str) -> None:
    """Find out by which name a new interpreter can import the application. Raises ConfigurationError."""
    if app.imported_as is not None:
        return
    for name, module in list(sys.modules.items()):
        if name == "__main__":
            continue
        for attribute, value in list(vars(module).items()) if hasattr(module, "__dict__") else ():
            if value is app:
                app.imported_as = f"{name}:{attribute}"
                return
    raise ConfigurationError(
        f"the pool {pool} starts a new interpreter that imports the application, "
        "but no module has it as a global variable"
    )
