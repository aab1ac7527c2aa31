"""Message systems. :func:`open_broker` finds the driver of a URL."""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

from umbel.drivers import Builtin, open_driver

if TYPE_CHECKING:
    from umbel.brokers.base import Broker, Options

BUILTIN = {
    "memory": Builtin("umbel.brokers.memory:MemoryBroker"),
    "sqlite": Builtin("umbel.brokers.sql:SQLBroker"),
    "postgresql": Builtin("umbel.brokers.sql:SQLBroker", "postgresql"),
    "mysql": Builtin("umbel.brokers.sql:SQLBroker", "mysql"),
    "mariadb": Builtin("umbel.brokers.sql:SQLBroker", "mysql"),
    "redis": Builtin("umbel.brokers.redis:RedisBroker", "redis"),
    "rediss": Builtin("umbel.brokers.redis:RedisBroker", "redis"),
    "redis+socket": Builtin("umbel.brokers.redis:RedisBroker", "redis"),
    "amqp": Builtin("umbel.brokers.amqp:AMQPBroker", "rabbitmq"),
    "amqps": Builtin("umbel.brokers.amqp:AMQPBroker", "rabbitmq"),
}


def open_broker(url: str, options: Options | None = None) -> Broker:
    """The broker that ``url`` names; nothing is connected yet.

    Third parties add schemes by entry points of the group ``umbel.brokers``. Raises ConfigurationError for an
    unknown scheme, MissingExtra when the driver's library is not installed.
    """
    return cast("Broker", open_driver("broker", "umbel.brokers", BUILTIN, url, options))
