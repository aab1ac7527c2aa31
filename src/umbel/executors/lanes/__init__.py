"""The kinds of lanes that an executor process can have, one module each, and how they are found by name.

``base`` is the seam. Kinds of other packages are found through the entry-point group ``umbel.pools``.
"""

from __future__ import annotations

import difflib
import importlib
import importlib.util
from typing import Any

from umbel.errors import ConfigurationError, MissingExtra
from umbel.executors.channel import HAS_PACKETS
from umbel.executors.lanes.base import Lanes

ENTRY_POINTS = "umbel.pools"

BUILTIN = {
    "prefork": "umbel.executors.lanes.prefork:PreforkLanes",
    "threads": "umbel.executors.lanes.threads:ThreadLanes",
    "asyncio": "umbel.executors.lanes.coroutines:AsyncioLanes",
    "gevent": "umbel.executors.lanes.greenlets:GeventLanes",
    "eventlet": "umbel.executors.lanes.greenlets:EventletLanes",
    "solo": "umbel.executors.lanes.prefork:SoloLanes",
}
ALIASES = {"processes": "prefork", "thread": "threads"}


def find_lanes(pool: str | type[Any]) -> type[Lanes]:
    """The kind of lanes that a pool's name stands for, ``module:Class``, or the class itself.

    Raises ConfigurationError for an unknown name and for what is no kind of lanes, MissingExtra when its library is
    not installed.
    """
    kind = _load(pool) if isinstance(pool, str) else pool
    if not (isinstance(kind, type) and issubclass(kind, Lanes)):
        raise ConfigurationError(f"the pool {pool!r} is not a kind of lanes: it must derive from {Lanes.__qualname__}")
    if kind.library and importlib.util.find_spec(kind.library) is None:
        raise MissingExtra(f"the pool {kind.name} ({kind.library} is not installed)", kind.library)
    if kind.needs_packets and not HAS_PACKETS:
        raise ConfigurationError(f"the pool {kind.name} needs packet sockets, which this system does not have")
    return kind


def _load(name: str) -> Any:
    known = BUILTIN.get(ALIASES.get(name, name))
    if known is not None:
        return _attribute(known)
    if ":" in name:
        try:
            return _attribute(name)
        except (ImportError, AttributeError) as error:
            raise ConfigurationError(f"the pool {name!r} cannot be imported: {error}") from error
    from importlib.metadata import entry_points

    found = {entry.name: entry for entry in entry_points(group=ENTRY_POINTS)}
    if name in found:
        return found[name].load()
    names = sorted({*BUILTIN, *found})
    close = difflib.get_close_matches(name, names, n=1)
    hint = f"did you mean {close[0]!r}? " if close else ""
    raise ConfigurationError(f"unknown pool {name!r}: {hint}known are {', '.join(names)}")


def _attribute(target: str) -> Any:
    module, _, name = target.partition(":")
    return getattr(importlib.import_module(module), name)
