"""Which broker and result store an application uses, and with which options: settings made into drivers.

With nothing configured both are one SQLite file: ``umbel.db`` in the directory that the environment variable
``UMBEL_HOME`` names, else in ``.umbel`` under the working directory.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import quote

from umbel import backends, brokers
from umbel.codecs import accept_set
from umbel.config import DEFAULT
from umbel.errors import ConfigurationError
from umbel.result_settings import database_options, redis_options, redis_timeout, redis_url
from umbel.urls import normalise, scheme_of

if TYPE_CHECKING:
    from umbel.backends.base import Backend
    from umbel.brokers.base import Broker
    from umbel.config import Settings

HOME = "UMBEL_HOME"
DISABLED = "disabled://"
_REDIS = frozenset({"redis", "rediss"})
_DATABASES = frozenset({"sqlite", "postgresql", "mysql", "mariadb"})


def embedded_url() -> str:
    """URL of the embedded file; makes its directory. Raises ConfigurationError when that cannot be."""
    home = Path(os.environ.get(HOME) or ".umbel").absolute()
    try:
        home.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ConfigurationError(
            f"no broker is configured, and the directory {home} of the embedded one cannot be made: {error.strerror}; "
            f"set broker_url, or {HOME} to another directory"
        ) from error
    return f"sqlite:///{home / 'umbel.db'}"


def broker_url(conf: Settings) -> str:
    """The broker that ``conf`` names; several addresses are joined by ``;``."""
    url = conf.broker_write_url or conf.broker_url
    if isinstance(url, (list, tuple)):
        return ";".join(url)
    if url:
        return url
    if conf.broker_transport or conf.broker_host:
        user = quote(conf.broker_user or "", safe="")
        if conf.broker_password:
            user += ":" + quote(conf.broker_password, safe="")
        port = f":{conf.broker_port}" if conf.broker_port else ""
        host = f"{user}@" if user else ""
        vhost = quote(conf.broker_vhost or "", safe="")
        return f"{conf.broker_transport or 'amqp'}://{host}{conf.broker_host or 'localhost'}{port}/{vhost}"
    return embedded_url()


def is_embedded(conf: Settings) -> bool:
    """Whether no broker is configured."""
    return not (
        conf.broker_write_url or conf.broker_url or conf.broker_read_url or conf.broker_transport or conf.broker_host
    )


def open_broker(conf: Settings) -> Broker:
    """The application's broker; nothing is connected yet. Raises ConfigurationError, MissingExtra."""
    from umbel.brokers.base import Options

    timeout = conf.publish_timeout
    transport = dict(conf.broker_transport_options)
    if conf.origin("broker_heartbeat") != DEFAULT:
        transport.setdefault("heartbeat", conf.broker_heartbeat)
    return brokers.open_broker(
        broker_url(conf),
        Options(
            publish_timeout=timeout,
            connect_timeout=min(conf.broker_connection_timeout or timeout, timeout),
            key_prefix=str(transport.get("global_keyprefix") or conf.key_prefix),
            mixed_fleet=conf.mixed_fleet,
            lowest_priority_first=conf.mixed_fleet,
            delivery_limit=conf.worker_delivery_limit,
            dead_letter_expires=conf.dead_letter_expires or 0.0,
            ssl=conf.broker_use_ssl or None,
            transport=transport,
        ),
    )


def backend_url(conf: Settings) -> str:
    """The result store that ``conf`` names. Raises ConfigurationError for a name without its address."""
    url = conf.result_backend
    if not url:
        return embedded_url() if is_embedded(conf) else DISABLED
    addresses = {"database": conf.database_url, "cache": conf.cache_backend}
    if url in addresses:
        found = addresses[url]
        if not found:
            raise ConfigurationError(f"result_backend is {url!r}, but its address is not set")
        return found
    return url.removeprefix("cache+") if url.startswith("cache+memory:") else url


def open_backend(conf: Settings) -> Backend:
    """The application's result store; nothing is connected yet. Raises ConfigurationError, MissingExtra."""
    from umbel.backends.base import Options

    url = backend_url(conf)
    kind = scheme_of(normalise(url)).partition("+")[0]
    transport = dict(conf.result_backend_transport_options)
    timeouts: dict[str, float] = {}
    if kind == "rpc":
        transport.setdefault("broker_url", broker_url(conf))
        transport.setdefault("broker_use_ssl", conf.broker_use_ssl or None)
    elif kind in _REDIS:
        transport = redis_options(conf) | transport
        if timeout := redis_timeout(url, conf):
            timeouts["timeout"] = timeout
        url = redis_url(url, conf)
    elif kind in _DATABASES:
        transport = database_options(conf) | transport
    return backends.open_backend(
        url,
        Options(
            serializer=conf.result_serializer,
            accept=accept_set(conf.result_accept_content or conf.accept_content),
            compression=conf.result_compression,
            expires=conf.result_expires or 0.0,
            failure_expires=conf.result_failure_expires,
            extended=conf.result_extended,
            persistent=bool(conf.result_persistent),
            connect_timeout=conf.broker_connection_timeout or 4.0,
            key_prefix=str(transport.get("global_keyprefix") or conf.key_prefix),
            ssl=conf.redis_backend_use_ssl if kind in _REDIS else None,
            transport=transport,
            **timeouts,
        ),
    )
