"""What Umbel has of Celery: asked of the mirror's modules, so that the scan cannot say what is not so."""

from __future__ import annotations

import importlib
import importlib.util
from functools import cache
from typing import Any

from umbel.compat.finder import ALWAYS, MIRROR, WHERE_NOT_INSTALLED
from umbel.compat.missing import MODULES, NAMES, NotInUmbel
from umbel.compat.scan.findings import Level
from umbel.sending import KNOWN_OPTIONS
from umbel.task import Task

ROOTS = (*ALWAYS, *WHERE_NOT_INSTALLED)

Verdict = tuple[Level, str] | None

_REAL = "only with the real {root} installed, which Umbel works beside but not through"

_OTHER_WORKER = "the worker has other parts and arguments, see umbel.worker.supervisor.Worker"

DIFFERENT: dict[str, str] = {
    "celery.backends.base.Backend": "result stores of one's own are written for umbel.backends.base.Backend",
    "celery.bootsteps.ConsumerStep": "get_consumers gets Umbel's broker instead of a channel, and answers with its "
    "consumers (docs/how-to/boot-steps.md)",
    "celery.worker.WorkController": _OTHER_WORKER,
    "celery.worker.worker.WorkController": _OTHER_WORKER,
    "kombu.serialization.register": "where the real kombu is installed, Umbel does not see what is registered there; "
    "umbel.codecs.register_serializer takes the same arguments",
}
"""Names that are there and behave in another way."""

NEVER_SENT = {
    "beat_init": "celery.beat",
    "beat_embedded_init": "celery.beat",
    "eventlet_pool_apply": "",
    "eventlet_pool_postshutdown": "",
    "eventlet_pool_preshutdown": "",
    "eventlet_pool_started": "",
}
"""Signals that exist and are not sent yet."""

TASK_OPTIONS_MISSING = {
    "Request": MODULES["celery.worker.request"],
    "Strategy": MODULES["celery.worker.strategy"],
}
"""Options of tasks that name a class of the project's own."""


def check_module(module: str) -> Verdict:
    """Whether a module of celery, kombu or billiard can be imported."""
    root = module.partition(".")[0]
    try:
        importlib.import_module(MIRROR + module)
    except NotInUmbel as error:
        return Level.MISSING, str(error)
    except ModuleNotFoundError as error:
        if not (error.name or "").startswith(MIRROR):
            return Level.DIFFERS, f"needs {error.name}, which is not installed here"
    else:
        return None
    if root in WHERE_NOT_INSTALLED:
        return Level.DIFFERS, _REAL.format(root=root)
    known = next((each for each in _with_parents(module) if each in MODULES), None)
    return Level.MISSING, MODULES[known] if known else "Umbel has no such module"


def _with_parents(module: str) -> list[str]:
    parts = module.split(".")
    return [".".join(parts[:count]) for count in range(len(parts), 0, -1)]


def check_name(module: str, name: str) -> Verdict:
    """Whether ``name`` can be had from a module that can be imported, and is what it is in Celery."""
    full = f"{module}.{name}"
    if not _has(module, name):
        reason = NAMES.get(module, {}).get(name)
        if module.partition(".")[0] in WHERE_NOT_INSTALLED:
            return Level.DIFFERS, _REAL.format(root=module.partition(".")[0])
        return Level.MISSING, reason or f"Umbel's {module} has no {name}"
    if full in DIFFERENT:
        return Level.DIFFERS, DIFFERENT[full]
    if module == "celery.signals" and name in NEVER_SENT:
        return Level.DIFFERS, "the signal can be connected to, and is not sent yet"
    return None


def is_module(name: str) -> bool:
    """Whether this is a module of the mirror or one that is known to be missing."""
    if name in MODULES:
        return True
    try:
        return importlib.util.find_spec(MIRROR + name) is not None
    except ModuleNotFoundError:
        return False


def _has(module: str, name: str) -> bool:
    try:
        getattr(importlib.import_module(MIRROR + module), name)
    except AttributeError:
        return is_module(f"{module}.{name}") and check_module(f"{module}.{name}") is None
    except ImportError:
        return False
    return True


@cache
def _app_names() -> frozenset[str]:
    base = importlib.import_module(MIRROR + "celery.app.base")
    app = base.Celery("scan", broker="memory://", backend="disabled://", set_as_current=False)
    return frozenset(dir(app))


@cache
def _control_names() -> frozenset[str]:
    control = importlib.import_module(MIRROR + "celery.app.control")
    return frozenset(dir(control.Control))


def check_app_attribute(path: tuple[str, ...]) -> Verdict:
    """Whether an application has an attribute, such as ``("control", "ping")``."""
    name = path[0]
    if name not in _app_names():
        return Level.MISSING, f"Umbel's applications have no {name}"
    if name == "add_periodic_task" and "celery.beat" in MODULES:
        return Level.DIFFERS, f"the task is not sent: {MODULES['celery.beat']}"
    if name == "control" and len(path) > 1 and path[1] not in _control_names():
        return Level.MISSING, f"app.control of Umbel has no {path[1]}"
    return None


def check_task_option(name: str) -> Verdict:
    """Whether ``@app.task(name=…)`` does what it does in Celery."""
    if name in TASK_OPTIONS_MISSING and not hasattr(Task, name):
        return Level.MISSING, TASK_OPTIONS_MISSING[name]
    attribute: Any = getattr(Task, name, None)
    if isinstance(attribute, property) and attribute.fset is None:
        return Level.MISSING, f"a task of Umbel cannot have a {name} of its own"
    return None


def check_send_option(name: str) -> Verdict:
    """Whether ``task.apply_async(name=…)`` is accepted."""
    if name in KNOWN_OPTIONS or name in ("args", "kwargs"):
        return None
    return Level.MISSING, "raises TypeError, as no option has this name; stamps are named in stamped_headers"
