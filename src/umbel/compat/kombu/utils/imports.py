"""``kombu.utils.imports``: objects by name."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from umbel.config.loading import load_object

__all__ = ["symbol_by_name"]

_NOTHING = object()


def symbol_by_name(name: Any, aliases: Mapping[str, str] | None = None, default: Any = _NOTHING, **ignored: Any) -> Any:
    """The object called ``package.module:object`` or ``package.module.object``; what is no string is given back.

    Raises ConfigurationError where there is none and no ``default``.
    """
    if not isinstance(name, str):
        return name
    try:
        return load_object((aliases or {}).get(name) or name)
    except Exception:
        if default is _NOTHING:
            raise
        return default
