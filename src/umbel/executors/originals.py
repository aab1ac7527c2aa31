"""Functions of the standard library as they are without the patches of gevent and eventlet.

Processes whose application runs on greenlets are patched before anything else is imported. The nursery blocks, forks
and reaps, which is to stay so there.
"""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable
from typing import Any

set_handler: Callable[[int, Any], Any] = importlib.import_module("_signal").signal
"""``signal.signal`` itself, without its conversions to and from enumerations."""


def original(module: str, name: str) -> Any:
    """``module.name`` as it was before any patching."""
    gevent, eventlet = sys.modules.get("gevent.monkey"), sys.modules.get("eventlet.patcher")
    if gevent is not None:
        return gevent.get_original(module, name)
    if eventlet is not None:
        return getattr(eventlet.original(module), name)
    return getattr(importlib.import_module(module), name)


def original_module(name: str) -> Any:
    """A module as it was before eventlet patched it."""
    eventlet = sys.modules.get("eventlet.patcher")
    return eventlet.original(name) if eventlet is not None else importlib.import_module(name)


def patched_by() -> str | None:
    """The library that has patched this process: ``"gevent"``, ``"eventlet"`` or None."""
    gevent, eventlet = sys.modules.get("gevent.monkey"), sys.modules.get("eventlet.patcher")
    if gevent is not None and gevent.is_module_patched("socket"):
        return "gevent"
    if eventlet is not None and eventlet.is_monkey_patched("socket"):
        return "eventlet"
    return None
