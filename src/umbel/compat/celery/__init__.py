"""``celery``: the names of Celery's top level, imported when they are first used."""

from __future__ import annotations

import importlib
import importlib.util
from typing import TYPE_CHECKING, Any, NamedTuple

from umbel.compat.missing import refuse

if TYPE_CHECKING:
    from umbel.bug_report import bugreport as bugreport
    from umbel.canvas import Signature as Signature
    from umbel.canvas import chain as chain
    from umbel.canvas import chord as chord
    from umbel.canvas import chunks as chunks
    from umbel.canvas import group as group
    from umbel.canvas import maybe_signature as maybe_signature
    from umbel.canvas import signature as signature
    from umbel.canvas import subtask as subtask
    from umbel.canvas import xmap as xmap
    from umbel.canvas import xstarmap as xstarmap
    from umbel.compat.celery.app.base import Celery as Celery
    from umbel.current import current_app as current_app
    from umbel.current import current_task as current_task
    from umbel.message import new_id
    from umbel.registry import shared_task as shared_task
    from umbel.task import Task as Task

    uuid = new_id


class version_info_t(NamedTuple):
    """A version in parts."""

    major: int
    minor: int
    micro: int
    releaselevel: str
    serial: str


SERIES = "opalescent"
__version__ = "5.7.0"
"""Of the Celery whose interface this is; Umbel's own is ``umbel.__version__``."""
VERSION = version_info = version_info_t(5, 7, 0, "", "")
VERSION_BANNER = f"{__version__} ({SERIES})"

_HOMES = {
    "Celery": "umbel.compat.celery.app.base",
    "Signature": "umbel.canvas",
    "Task": "umbel.task",
    "bugreport": "umbel.bug_report",
    "chain": "umbel.canvas",
    "chord": "umbel.canvas",
    "chunks": "umbel.canvas",
    "current_app": "umbel.current",
    "current_task": "umbel.current",
    "group": "umbel.canvas",
    "maybe_signature": "umbel.canvas",
    "shared_task": "umbel.registry",
    "signature": "umbel.canvas",
    "subtask": "umbel.canvas",
    "uuid": "umbel.message",
    "xmap": "umbel.canvas",
    "xstarmap": "umbel.canvas",
}
_OTHER_NAMES = {"uuid": "new_id"}

__all__ = [
    "Celery",
    "Signature",
    "Task",
    "bugreport",
    "chain",
    "chord",
    "chunks",
    "current_app",
    "current_task",
    "group",
    "maybe_signature",
    "shared_task",
    "signature",
    "subtask",
    "uuid",
    "xmap",
    "xstarmap",
]


def __getattr__(name: str) -> Any:
    home = _HOMES.get(name)
    if home is None:
        if name.strip("_") and not name.startswith("__") and importlib.util.find_spec(f"{__name__}.{name}") is not None:
            return importlib.import_module(f"{__name__}.{name}")
        return refuse("celery", name)
    found = globals()[name] = getattr(importlib.import_module(home), _OTHER_NAMES.get(name, name))
    return found


def __dir__() -> list[str]:
    return sorted({*globals(), *_HOMES})
