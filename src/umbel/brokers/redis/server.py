"""Where a Redis server is, and how to get a socket to it that is ready for commands.

Built on hiredis and the standard library alone: importing redis-py costs every process 150 to 300 ms and 13 MB.
Understands the URLs of Celery's Redis transport: ``redis://``, ``rediss://`` with ``ssl_…`` parameters, and
``redis+socket:///path?virtual_host=N``.
"""

from __future__ import annotations

import math
import socket
import sys
from collections.abc import Mapping
from typing import Any

from msgspec import Struct, field

from umbel.brokers import tls
from umbel.config.loading import load_object
from umbel.errors import ConfigurationError
from umbel.urls import parse, redact


class Server(Struct, frozen=True):
    """One Redis database and the credentials for it.

    ``path`` is a Unix socket, used instead of ``host`` and ``port`` when it is set. ``tls`` is None for plain
    connections, otherwise the TLS options without their ``ssl_`` in front. ``credentials`` is redis-py's
    ``CredentialProvider`` (an object whose ``get_credentials()`` returns password, or user and password).
    ``keepalive``: the system looks whether idle connections still lead anywhere; with ``health_check_interval``, after
    so many seconds of silence instead of hours, and ``keepalive_options`` are further TCP options, by their numbers.
    """

    url: str
    host: str = "localhost"
    port: int = 6379
    path: str = ""
    db: int = 0
    username: str = ""
    password: str = ""
    tls: Mapping[str, Any] | None = None
    connect_timeout: float = 4.0
    client_name: str = ""
    credentials: Any = None
    keepalive: bool = True
    health_check_interval: int = 0
    keepalive_options: Mapping[int, int] = field(default_factory=dict[int, int])

    @property
    def identity(self) -> tuple[Any, ...]:
        """Equal for two objects that reach the same database as the same user."""
        place = self.path or (self.host, self.port)
        return (place, self.db, self.username, self.password, id(self.credentials) if self.credentials else None)

    @property
    def shown(self) -> str:
        """The address without secrets, for messages."""
        return redact(self.url)

    def connect(self, timeout: float) -> socket.socket:
        """A new socket, TLS included. Raises OSError, and ConfigurationError for TLS files that cannot be used."""
        if self.path:
            plain = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
            plain.settimeout(timeout)
            try:
                plain.connect(self.path)
            except OSError:
                plain.close()
                raise
            return plain
        context = tls.context_of(self.tls) if self.tls is not None else None
        plain = socket.create_connection((self.host, self.port), timeout)
        try:
            plain.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            self._keep_alive(plain)
            return plain if context is None else context.wrap_socket(plain, server_hostname=self.host)
        except OSError:
            plain.close()
            raise

    def _keep_alive(self, plain: socket.socket) -> None:
        if not self.keepalive and not self.health_check_interval:
            return
        plain.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        if self.health_check_interval:
            idle = getattr(socket, "TCP_KEEPALIVE" if sys.platform == "darwin" else "TCP_KEEPIDLE")
            plain.setsockopt(socket.IPPROTO_TCP, idle, self.health_check_interval)
            plain.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, max(1, self.health_check_interval // 3))
            plain.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPCNT, 3)
        for option, value in self.keepalive_options.items():
            plain.setsockopt(socket.IPPROTO_TCP, option, value)

    def handshake(self) -> list[tuple[Any, ...]]:
        """The commands that a new connection begins with."""
        hello: tuple[Any, ...] = ("HELLO", "3")
        username, password = self._login()
        if password:
            hello += ("AUTH", username or "default", password)
        if self.client_name:
            hello += ("SETNAME", self.client_name)
        return [hello, ("SELECT", self.db)] if self.db else [hello]

    def _login(self) -> tuple[str, str]:
        if self.credentials is None:
            return self.username, self.password
        given = tuple(self.credentials.get_credentials())
        return ("", given[0]) if len(given) == 1 else (given[0], given[1])


class _Parameters(Struct):
    """What the parameters of a URL said, and what is left of them."""

    plain: dict[str, str] = field(default_factory=dict[str, str])
    tls: dict[str, Any] = field(default_factory=dict[str, Any])


def server_of(
    url: str,
    *,
    connect_timeout: float = 4.0,
    ssl: Mapping[str, Any] | bool | None = None,
    transport: Mapping[str, Any] | None = None,
) -> Server:
    """The server that ``url`` names. ``ssl`` and ``transport`` are the options of the application.

    Options in the URL go before those in ``transport``. Raises ConfigurationError for a database or a time that is no
    number, an unknown TLS option, or a credential provider that cannot be found.
    """
    parts = parse(url)
    transport = transport or {}
    given = _split(parts.query)
    unix = parts.scheme in ("redis+socket", "socket", "unix")
    database = given.plain.get("virtual_host", given.plain.get("db", "")) if unix else parts.path
    encrypted = _tls_options(given.tls, ssl) if parts.scheme == "rediss" or ssl else None
    options = {**transport, **given.plain}
    return Server(
        url=url,
        host=parts.host or "localhost",
        port=parts.port or 6379,
        path="/" + parts.path if unix else "",
        db=_database(database or given.plain.get("db", ""), url),
        username=parts.username or given.plain.get("username", ""),
        password=parts.password or given.plain.get("password", ""),
        tls=None if unix else encrypted,
        connect_timeout=_number(options, "socket_connect_timeout", url) or connect_timeout,
        client_name=str(options.get("client_name") or ""),
        credentials=_provider(options.get("credential_provider")),
        keepalive=str(options.get("socket_keepalive", True)).lower() not in _OFF,
        health_check_interval=min(_MOST_IDLE, math.ceil(_number(options, "health_check_interval", url))),
        keepalive_options=transport.get("socket_keepalive_options") or {},
    )


_MOST_IDLE = 32767
"""Seconds, the most that Linux takes."""
_OFF = frozenset({"false", "0", "no", "off", "none"})


def _number(options: Mapping[str, Any], name: str, url: str) -> float:
    """An option in seconds; 0 where there is none."""
    try:
        return float(options.get(name) or 0)
    except (TypeError, ValueError) as error:
        raise ConfigurationError(f"{name} of {redact(url)!r} is not a number: {options[name]!r}") from error


def _provider(given: Any) -> Any:
    if isinstance(given, str):
        given = load_object(given)
    return given() if isinstance(given, type) else given


def _split(query: Mapping[str, str]) -> _Parameters:
    found = _Parameters()
    for name, value in query.items():
        if name.startswith("ssl_"):
            found.tls[name.removeprefix("ssl_")] = value
        else:
            found.plain[name] = value
    return found


def _database(text: str, url: str) -> int:
    number = text.strip("/")
    if not number:
        return 0
    if not number.isdigit():
        raise ConfigurationError(f"the database of {redact(url)!r} is not a number: {number!r}")
    return int(number)


def _tls_options(query: Mapping[str, Any], given: Mapping[str, Any] | bool | None) -> dict[str, Any]:
    options: dict[str, Any] = dict(query)
    if isinstance(given, Mapping):
        options |= {name.removeprefix("ssl_"): value for name, value in given.items()}
    unknown = options.keys() - tls.NAMES
    if unknown:
        raise ConfigurationError(f"unknown TLS option {min(unknown)!r}; known are {', '.join(sorted(tls.NAMES))}")
    return options
