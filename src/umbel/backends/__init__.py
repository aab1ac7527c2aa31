"""Result stores. :func:`open_backend` finds the driver of a URL."""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

from umbel.drivers import Builtin, driver_class, open_driver
from umbel.urls import normalise

if TYPE_CHECKING:
    from umbel.backends.base import Backend, Options

BUILTIN = {
    "memory": Builtin("umbel.backends.memory:MemoryBackend"),
    "disabled": Builtin("umbel.backends.disabled:DisabledBackend"),
    "sqlite": Builtin("umbel.backends.sql:SQLBackend"),
    "postgresql": Builtin("umbel.backends.sql:SQLBackend", "postgresql"),
    "mysql": Builtin("umbel.backends.sql:MySQLBackend", "mysql"),
    "mariadb": Builtin("umbel.backends.sql:MySQLBackend", "mysql"),
    "redis": Builtin("umbel.backends.redis:RedisBackend", "redis"),
    "rediss": Builtin("umbel.backends.redis:RedisBackend", "redis"),
    "redis+socket": Builtin("umbel.backends.redis:RedisBackend", "redis"),
    "rpc": Builtin("umbel.backends.rpc:RPCBackend", "rabbitmq"),
}


def open_backend(url: str, options: Options | None = None) -> Backend:
    """The result store that ``url`` names; nothing is connected yet.

    Third parties add schemes by entry points of the group ``umbel.backends``. Raises ConfigurationError for an
    unknown scheme, MissingExtra when the driver's library is not installed.
    """
    return cast("Backend", open_driver("result backend", "umbel.backends", BUILTIN, url, options))


def backend_class(url: str) -> type[Backend]:
    """The class of the result store that ``url`` names. Raises ConfigurationError, MissingExtra."""
    return cast("type[Backend]", driver_class("result backend", "umbel.backends", BUILTIN, normalise(url)))
