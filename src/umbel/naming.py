"""The names of tasks that are given none."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any


def default_name(function: Callable[..., Any], main: str | None) -> str:
    """``module.function``; the application's name stands for ``__main__``."""
    return task_name(*names_of(function), main)


def names_of(function: Callable[..., Any]) -> tuple[str, str]:
    """The name of a function, and that of its module."""
    module = getattr(function, "__module__", None) or "__main__"
    return getattr(function, "__name__", type(function).__name__), module


def task_name(name: str, module: str, main: str | None) -> str:
    """The task's name; ``main`` is the application's, which stands for ``__main__``."""
    if module == "__main__":
        module = main or _main_module()
    return f"{module}.{name}"


def _main_module() -> str:
    spec = getattr(sys.modules.get("__main__"), "__spec__", None)
    return spec.name if spec is not None else "__main__"
