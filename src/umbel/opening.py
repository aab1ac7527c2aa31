"""Which broker and result store an application uses, and with which options: settings made into drivers.

With nothing configured both are one SQLite file: ``umbel.db`` in the directory that the environment variable
``UMBEL_HOME`` names, else in ``.umbel`` under the working directory.
"""

from __future__ import annotations

import logging
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import quote

from umbel import backends, brokers
from umbel.codecs import accept_set
from umbel.config import DEFAULT
from umbel.config.loading import load_object
from umbel.errors import ConfigurationError
from umbel.failover import in_order
from umbel.result_retrying import policy_of, repeat_calls
from umbel.result_settings import database_options, redis_options, redis_timeout, redis_url
from umbel.transport_options import warn_of_unused
from umbel.urls import normalise, redact, scheme_of, split

if TYPE_CHECKING:
    from umbel.backends.base import Backend
    from umbel.brokers.base import Broker
    from umbel.config import Settings

log = logging.getLogger("umbel.config")

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
    """The broker that ``conf`` names; several addresses, in the order in which to try them, are joined by ``;``.

    Raises ConfigurationError for a ``broker_failover_strategy`` that cannot be used.
    """
    url = conf.broker_write_url or conf.broker_url or conf.broker_read_url
    if url:
        several = split(url) if isinstance(url, str) else url
        return ";".join(in_order(several, conf.broker_failover_strategy) if len(several) > 1 else several)
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

    timeout, url = conf.publish_timeout, broker_url(conf)
    _warn(conf, url)
    transport = dict(conf.broker_transport_options)
    if conf.origin("broker_heartbeat") != DEFAULT:
        transport.setdefault("heartbeat", conf.broker_heartbeat)
    if conf.broker_login_method:
        transport.setdefault("login_method", conf.broker_login_method)
    if conf.origin("broker_native_delayed_delivery_queue_type") != DEFAULT:
        transport.setdefault("native_delayed_delivery_queue_type", conf.broker_native_delayed_delivery_queue_type)
    return brokers.open_broker(
        url,
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


def _warn(conf: Settings, url: str) -> None:
    """Log what was set for the broker at ``url`` and has no effect."""
    warn_of_unused(scheme_of(normalise(url)), conf.broker_transport_options)
    read = conf.broker_read_url
    if read and set(split(read) if isinstance(read, str) else read) != set(split(url)):
        log.warning(
            "no effect in Umbel: setting=broker_read_url reason='a worker consumes where it publishes: %s'", redact(url)
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
        transport.setdefault("login_method", conf.broker_login_method)
        if conf.result_cache_max >= 0:
            transport.setdefault("cache_max", conf.result_cache_max or sys.maxsize)
    elif kind in _REDIS:
        transport = redis_options(conf) | transport
        if timeout := redis_timeout(url, conf):
            timeouts["timeout"] = timeout
        url = redis_url(url, conf)
    elif kind in _DATABASES:
        transport = database_options(conf) | transport
    options = Options(
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
    )
    own = _own_backend(conf, url)
    backend = backends.open_backend(url, options) if own is None else own(normalise(url), options)
    if policy := policy_of(conf, is_redis=kind in _REDIS):
        repeat_calls(backend, policy)
    return backend


def _own_backend(conf: Settings, url: str) -> type[Backend] | None:
    """The class that ``override_backends`` has for the scheme of ``url``. Raises ConfigurationError for one that is no
    backend of Umbel's."""
    from umbel.backends.base import Backend

    own, scheme = conf.override_backends or {}, scheme_of(normalise(url))
    named = own.get(scheme) or own.get(scheme.partition("+")[0])
    if named is None:
        return None
    found: object = load_object(named) if isinstance(named, str) else named
    if isinstance(found, type) and issubclass(found, Backend):
        return found
    raise ConfigurationError(
        f"override_backends: {named!r} for {scheme}:// is no subclass of umbel.backends.base.Backend"
    )
