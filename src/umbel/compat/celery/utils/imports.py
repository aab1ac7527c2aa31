"""``celery.utils.imports``: objects and modules by their names."""

from __future__ import annotations

import importlib
import os
import sys
from collections.abc import Callable, Generator, Mapping
from contextlib import contextmanager
from types import ModuleType
from typing import Any

from umbel.errors import UmbelError

__all__ = [
    "NotAPackage",
    "cwd_in_path",
    "find_module",
    "gen_task_name",
    "import_from_cwd",
    "instantiate",
    "module_file",
    "qualname",
    "reload_from_cwd",
    "symbol_by_name",
]

Importer = Callable[..., Any]


class NotAPackage(UmbelError):
    """A module is asked for in a module that is no package."""


def qualname(obj: Any) -> str:
    """Module and qualified name of a class or function, or of an object's class."""
    if not hasattr(obj, "__name__") and hasattr(obj, "__class__"):
        obj = obj.__class__
    name = getattr(obj, "__qualname__", None) or obj.__name__
    return name if "." in obj.__name__ else f"{obj.__module__}.{name}"


def instantiate(name: Any, *args: Any, **kwargs: Any) -> Any:
    """An object of the class ``name`` names."""
    return symbol_by_name(name)(*args, **kwargs)


def symbol_by_name(
    name: Any,
    aliases: Mapping[str, str] | None = None,
    imp: Importer | None = None,
    package: str | None = None,
    sep: str = ".",
    default: Any = None,
    **kwargs: Any,
) -> Any:
    """The object ``package.module.name`` or ``package.module:name``; what is no text as it is.

    ``aliases``: other names by which some are known. ``package``: what a name with a leading point starts from.
    ``default`` is returned where there is no such object. Raises ImportError or AttributeError otherwise, ValueError
    when the module itself cannot be imported for another reason.
    """
    if not isinstance(name, str):
        return name
    full = (aliases or {}).get(name) or name
    separator = ":" if ":" in full else sep
    module_name, _, attribute = full.rpartition(separator)
    if not module_name:
        module_name, attribute = (package or attribute), (attribute if package else "")
    try:
        try:
            module = (imp or importlib.import_module)(module_name, package=package, **kwargs)
        except ValueError as error:
            raise ValueError(f"{name!r} cannot be imported: {error}").with_traceback(error.__traceback__) from error
        return getattr(module, attribute) if attribute else module
    except (ImportError, AttributeError):
        if default is None:
            raise
    return default


@contextmanager
def cwd_in_path() -> Generator[None]:
    """The working directory is first on the path meanwhile."""
    try:
        here = os.getcwd()
    except FileNotFoundError:
        here = ""
    if not here or here in sys.path:
        yield
        return
    sys.path.insert(0, here)
    try:
        yield
    finally:
        if here in sys.path:
            sys.path.remove(here)


def find_module(module: str, path: str | None = None, imp: Importer | None = None) -> ModuleType | None:
    """The module of that name, imported, with the working directory on the path.

    Raises ModuleNotFoundError; NotAPackage where a part of the name is a module but no package.
    """
    load: Importer = imp or importlib.import_module
    with cwd_in_path():
        try:
            return load(module)
        except ImportError:
            parts = module.split(".")
            for number in range(1, len(parts)):
                parent = ".".join(parts[:number])
                found = load(parent)
                if not hasattr(found, "__path__"):
                    raise NotAPackage(parent) from None
            raise


def import_from_cwd(module: str, imp: Importer | None = None, package: str | None = None) -> Any:
    """The module of that name, imported with the working directory on the path."""
    with cwd_in_path():
        return (imp or importlib.import_module)(module, package=package)


def reload_from_cwd(module: ModuleType, reloader: Callable[[ModuleType], Any] | None = None) -> Any:
    """The module, imported anew with the working directory on the path."""
    with cwd_in_path():
        return (reloader or importlib.reload)(module)


def module_file(module: ModuleType) -> str | None:
    """The source file of a module."""
    name = module.__file__
    return name[:-1] if name is not None and name.endswith((".pyc", ".pyo")) else name


def gen_task_name(app: Any, name: str, module_name: str) -> str:
    """The name of a task by its function's and its module's; the application's name stands for ``__main__``."""
    module_name = module_name or "__main__"
    module = sys.modules.get(module_name)
    if module is not None:
        module_name = module.__name__
    if module_name == "__main__" and app.main:
        module_name = app.main
    return f"{module_name}.{name}"
