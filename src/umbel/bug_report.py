"""What a report of a bug should say: versions, drivers, changed settings; no passwords, and nothing is connected."""

from __future__ import annotations

import os
import platform
import sys
from importlib import metadata
from typing import TYPE_CHECKING, Any, cast

from umbel.config import DECLARED, DEFAULT
from umbel.config.masking import masked
from umbel.current import get_current_app
from umbel.urls import redact

if TYPE_CHECKING:
    from umbel.app import Umbel

LIBRARIES = (
    "msgspec", "click", "rich", "SQLAlchemy", "psutil", "redis", "hiredis", "pika", "psycopg", "PyMySQL", "PyYAML",
    "brotli", "zstandard", "pydantic", "celery", "kombu",
)  # fmt: skip


def describe(app: Umbel) -> dict[str, Any]:
    """All of it, by name; ``libraries`` and ``settings`` are dicts themselves."""
    conf, broker, backend = app.conf, app.broker, app.backend
    return {
        "umbel": _version("umbel"),
        "python": f"{platform.python_implementation()} {platform.python_version()} ({sys.executable})",
        "system": f"{platform.system()} {platform.release()} {platform.machine()}, {os.cpu_count()} CPUs",
        "libraries": {name: found for name in LIBRARIES if (found := _version(name)) is not None},
        "app": app.imported_as,
        "broker": f"{redact(broker.url)} ({type(broker).__name__})",
        "results": f"{redact(backend.url)} ({type(backend).__name__})",
        "settings": {name: masked(held, conf[name]) for name, held in DECLARED.items() if conf.origin(name) != DEFAULT},
    }


def as_text(value: Any) -> str:
    """A value on one line: words as they are, everything else as Python writes it."""
    return value if isinstance(value, str) and " " not in value and value else repr(value)


def bugreport(app: Umbel | None = None) -> str:
    """``describe`` as text, of an application or of the current one."""
    lines: list[str] = []
    for name, value in describe(app or get_current_app()).items():
        if isinstance(value, dict):
            several = cast("dict[str, Any]", value)
            lines += [f"{name}:", *(f"  {key} {as_text(each)}" for key, each in several.items())]
        else:
            lines.append(f"{name}: {value or '-'}")
    return "\n".join(lines)


def _version(name: str) -> str | None:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None
