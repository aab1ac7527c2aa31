"""The systems that tests can have, by name."""

import os
from collections.abc import Iterable, Mapping

from .errors import ServiceError
from .mariadb import MariaDB
from .postgresql import PostgreSQL
from .rabbitmq import RabbitMQ
from .redis import DurableRedis, Redis
from .secured import SecuredRabbitMQ, SecuredRedis
from .server import Server

SERVERS: Mapping[str, type[Server]] = {
    system.name: system for system in (Redis, DurableRedis, RabbitMQ, PostgreSQL, MariaDB)
}

PRIVATE: Mapping[str, type[Server]] = {system.name: system for system in (SecuredRedis, SecuredRabbitMQ)}
"""Systems that tests start for themselves, and that nobody shares."""


def server_class(name: str) -> type[Server]:
    """The class of a system. Raises ServiceError for an unknown name."""
    try:
        return SERVERS[name] if name in SERVERS else PRIVATE[name]
    except KeyError:
        raise ServiceError(f"unknown service {name!r}; there are: {', '.join(SERVERS)}") from None


def chosen(names: Iterable[str], otherwise: Iterable[str] = SERVERS) -> list[str]:
    """The names asked for, each once; `otherwise` when none is given. Raises ServiceError for an unknown one."""
    wanted = list(dict.fromkeys(names)) or list(otherwise)
    for name in wanted:
        server_class(name)
    return wanted


def variable(name: str) -> str:
    """The environment variable that holds a system's URL: `UMBEL_TEST_REDIS_DURABLE_URL`."""
    return f"UMBEL_TEST_{name.upper().replace('-', '_')}_URL"


def given_url(name: str) -> str | None:
    """The URL of a server that the environment provides, which is then used and never started or stopped."""
    return os.environ.get(variable(name)) or None
