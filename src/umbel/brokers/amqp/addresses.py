"""Where the broker is: URLs of RabbitMQ as connection parameters.

``amqp://user:password@host:port/vhost?heartbeat=30``; ``amqps://`` is TLS; several URLs joined by ``;`` are tried in
turn. Without parts, Celery's defaults: guest:guest@localhost:5672, virtual host ``/``.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import pika
from msgspec import Struct
from pika.credentials import ExternalCredentials

from umbel.brokers import tls
from umbel.brokers.base import Options
from umbel.errors import ConfigurationError
from umbel.urls import parse, redact

HEARTBEAT = 30
_PORT, _TLS_PORT = 5672, 5671
_TLS_NAMES = tls.NAMES | {"server_hostname"}


class Address(Struct, frozen=True):
    """One server. ``shown`` has no password and is fit for errors; ``external``: the client's certificate logs in."""

    host: str
    port: int
    vhost: str
    username: str
    password: str
    shown: str
    heartbeat: int
    tls: Mapping[str, Any] | None = None
    external: bool = False

    def parameters(self, timeout: float, name: str) -> pika.ConnectionParameters:
        """pika's form; ``timeout`` in seconds bounds the whole opening, ``name`` is shown by the broker's tools.

        Raises ConfigurationError when the TLS files cannot be used.
        """
        secured = None if self.tls is None else pika.SSLOptions(tls.context_of(self.tls), self._server_name())
        return pika.ConnectionParameters(
            host=self.host,
            port=self.port,
            virtual_host=self.vhost,
            credentials=self._credentials(),
            heartbeat=self.heartbeat,
            connection_attempts=1,
            socket_timeout=timeout,
            stack_timeout=timeout,
            blocked_connection_timeout=None,
            client_properties={"connection_name": name, "product": "Umbel"},
            ssl_options=secured,
        )

    def _credentials(self) -> Any:
        if self.external:
            return ExternalCredentials()
        return pika.PlainCredentials(self.username, self.password)

    def _server_name(self) -> str:
        return (self.tls or {}).get("server_hostname") or self.host


def addresses(url: str, options: Options) -> list[Address]:
    """All servers that ``url`` names, in order. Raises ConfigurationError."""
    return [_address(part, options) for part in re.split(r";(?=[A-Za-z][A-Za-z0-9+.\-]*://)", url)]


def _address(url: str, options: Options) -> Address:
    parts = parse(url)
    encrypted = _tls(options.ssl, parts.scheme == "amqps", url)
    heartbeat = parts.query.get("heartbeat", options.transport.get("heartbeat", HEARTBEAT))
    try:
        seconds = int(float(heartbeat))
    except (TypeError, ValueError) as error:
        raise ConfigurationError(f"the heartbeat in {redact(url)!r} is not a number of seconds") from error
    host, port = parts.host or "localhost", parts.port or (_PORT if encrypted is None else _TLS_PORT)
    return Address(
        host=host,
        port=port,
        vhost=parts.path or "/",
        username=parts.username or "guest",
        password=parts.password or "guest",
        shown=f"amqp{'s' if encrypted is not None else ''}://{parts.username or 'guest'}@{host}:{port}/{parts.path}",
        heartbeat=seconds,
        tls=encrypted,
        external=_is_external(parts.query.get("login_method") or options.transport.get("login_method"), url),
    )


def _is_external(method: Any, url: str) -> bool:
    name = str(method or "PLAIN").upper()
    if name not in ("PLAIN", "AMQPLAIN", "EXTERNAL"):
        raise ConfigurationError(f"the login method of {redact(url)!r} is PLAIN or EXTERNAL, not {method!r}")
    return name == "EXTERNAL"


def _tls(given: Mapping[str, Any] | bool | None, scheme: bool, url: str) -> Mapping[str, Any] | None:
    if isinstance(given, Mapping):
        unknown = sorted(set(given) - _TLS_NAMES)
        if unknown:
            known = ", ".join(sorted(_TLS_NAMES))
            raise ConfigurationError(f"unknown TLS options {unknown} for {redact(url)!r}; known are {known}")
        return given
    return {} if given or scheme else None
