"""``celery.loaders``: how an application finds its configuration and its tasks."""

from __future__ import annotations

from typing import Any

from umbel.compat.celery.utils.imports import symbol_by_name

__all__ = ["get_loader_cls"]

LOADER_ALIASES = {
    "app": "umbel.compat.celery.loaders.app:AppLoader",
    "default": "umbel.compat.celery.loaders.default:Loader",
}


def get_loader_cls(loader: Any) -> Any:
    """The class of a loader by its name: ``app``, ``default`` or a dotted name."""
    return symbol_by_name(loader, LOADER_ALIASES)
