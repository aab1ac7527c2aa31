"""``celery.app.backends``: the class of a result store by its name or URL. The classes are Umbel's."""

from __future__ import annotations

from typing import Any

from umbel.backends import backend_class
from umbel.compat.celery.utils.imports import symbol_by_name
from umbel.errors import ConfigurationError
from umbel.urls import normalise

__all__ = ["by_name", "by_url"]

_NAMES = {"db": "sqlite", "database": "sqlite", "amqp": "rpc"}


def by_name(backend: Any = None, loader: Any = None, extension_namespace: str = "celery.result_backends") -> type[Any]:
    """The class of the store of that name (``redis``, ``rpc``, ``database``, ``disabled`` …) or dotted name.

    Stores of other packages are found by the entry points ``umbel.backends``: ``loader`` and ``extension_namespace``
    have no effect. Raises ConfigurationError, MissingExtra.
    """
    name = backend or "disabled"
    if not isinstance(name, str):
        return name
    if "." not in name and ":" not in name:
        return backend_class(f"{_NAMES.get(name, name)}://")
    try:
        return symbol_by_name(name)
    except (ImportError, AttributeError) as error:
        raise ConfigurationError(f"the result store {name!r} cannot be imported: {error}") from error


def by_url(backend: Any = None, loader: Any = None) -> tuple[type[Any], str | None]:
    """The class of a store, and its URL as the class wants it; without a URL ``by_name`` and None."""
    if not (isinstance(backend, str) and "://" in backend):
        return by_name(backend, loader), None
    url = normalise(backend)
    return backend_class(url), url
