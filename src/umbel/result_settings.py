"""Settings of single result stores (``redis_…``, ``database_…``) as addresses and options of their drivers.

What the URL says goes before a setting, and what stands in ``result_backend_transport_options`` as well.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from umbel.config.loading import load_object
from umbel.errors import ConfigurationError
from umbel.urls import parse, redact

if TYPE_CHECKING:
    from umbel.config import Settings


def redis_url(url: str, conf: Settings) -> str:
    """``url`` with what it does not say of host, port, user and password.

    As in Celery the number of the database is a setting's only where ``url`` is a mere name (``redis``) or a Unix
    socket: of an address without a number it is 0.
    """
    parts = parse(url)
    socket = parts.scheme == "redis+socket"
    host = parts.host or ("" if socket else conf.redis_host or "")
    port = parts.port or (None if socket else conf.redis_port)
    username, password = parts.username or conf.redis_username or "", parts.password or conf.redis_password or ""
    scheme, separator, rest = url.partition("://")
    authority, rest = ("", "") if not separator else _authority_of(rest)
    if (host, port, username, password) != (parts.host, parts.port, parts.username, parts.password):
        login = f"{quote(username, safe='')}:{quote(password, safe='')}@" if username or password else ""
        authority = f"{login}{f'[{host}]' if ':' in host else host}{f':{port}' if port else ''}"
    if conf.redis_db and not separator:
        rest = f"/{conf.redis_db}"
    elif conf.redis_db and socket and not parts.query.keys() & {"virtual_host", "db"}:
        rest += f"{'&' if '?' in rest else '?'}virtual_host={conf.redis_db}"
    return f"{scheme}://{authority}{rest}"


def _authority_of(rest: str) -> tuple[str, str]:
    """What stands before path and parameters, and those."""
    end = min((at for mark in "/?#" if (at := rest.find(mark)) >= 0), default=len(rest))
    return rest[:end], rest[end:]


def redis_timeout(url: str, conf: Settings) -> float | None:
    """Seconds to wait for a reply, None for the driver's own. Raises ConfigurationError when the URL has no number."""
    given = parse(url).query.get("socket_timeout")
    if given is None:
        return conf.redis_socket_timeout or None
    try:
        return float(given) or None
    except ValueError as error:
        raise ConfigurationError(f"socket_timeout in {redact(url)!r} is not a number of seconds") from error


def redis_options(conf: Settings) -> dict[str, Any]:
    """Options of a connection, for the driver."""
    options = {
        "socket_connect_timeout": conf.redis_socket_connect_timeout,
        "socket_keepalive": conf.redis_socket_keepalive,
        "health_check_interval": conf.redis_backend_health_check_interval,
        "client_name": conf.redis_client_name,
        "credential_provider": conf.redis_backend_credential_provider,
    }
    return {name: value for name, value in options.items() if value is not None}


def database_options(conf: Settings) -> dict[str, Any]:
    """Options of engine and tables, for the driver. Raises ConfigurationError for a callback that is not there."""
    callback = conf.database_engine_callback
    if isinstance(callback, str):
        callback = load_object(callback)
    if callback is not None and not callable(callback):
        raise ConfigurationError(f"database_engine_callback must be a function, not {callback!r}")
    options: dict[str, Any] = {
        "engine_options": conf.database_engine_options,
        "engine_callback": callback,
        "table_names": conf.database_table_names,
        "table_schemas": conf.database_table_schemas,
    }
    return {name: value for name, value in options.items() if value}
