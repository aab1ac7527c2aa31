"""Opens where holds and claims of an application are kept."""

from __future__ import annotations

import importlib
import weakref
from typing import TYPE_CHECKING, Any

from umbel.limits.opening import Family, shared_system

if TYPE_CHECKING:
    from umbel.app import Umbel
    from umbel.limits.holds_store import HoldStore

_MODULES: dict[Family, str] = {
    "memory": "umbel.limits.holds_memory",
    "redis": "umbel.limits.holds_redis",
    "sql": "umbel.limits.holds_sql",
}
_opened: weakref.WeakKeyDictionary[Any, HoldStore] = weakref.WeakKeyDictionary()
"""Stores by the driver whose connections they use."""


def open_holds(app: Umbel, purpose: str) -> HoldStore:
    """Where holds and claims are kept; nothing is connected yet.

    Raises ConfigurationError, which names ``purpose``, when neither broker nor result store can keep them.
    """
    system = shared_system(app, purpose)
    store = _opened.get(system.driver)
    if store is None:
        module = importlib.import_module(_MODULES[system.family])
        store = module.open_store(system.driver, system.prefix, app.conf.publish_timeout)
        _opened[system.driver] = store
    return store
