"""Which of an application's systems keeps limits for all workers: the broker's if it can, else the result store's."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

from umbel.errors import ConfigurationError

if TYPE_CHECKING:
    from umbel.app import Umbel
    from umbel.limits.buckets import RateStore

Family = Literal["memory", "redis", "sql"]

_FAMILIES: dict[str, Family] = {
    "umbel.brokers.memory.MemoryBroker": "memory",
    "umbel.backends.memory.MemoryBackend": "memory",
    "umbel.brokers.redis.broker.RedisBroker": "redis",
    "umbel.backends.redis.RedisBackend": "redis",
    "umbel.brokers.sql.broker.SQLBroker": "sql",
    "umbel.backends.sql.SQLBackend": "sql",
}
"""Drivers by class. Their modules are not imported here: they need extras that may not be installed."""

_RATES: dict[Family, str] = {
    "memory": "umbel.limits.rates_memory",
    "redis": "umbel.limits.rates_redis",
    "sql": "umbel.limits.rates_sql",
}


class System(NamedTuple):
    """A driver whose connections can be used for limits."""

    family: Family
    driver: Any

    @property
    def prefix(self) -> str:
        """What stands before the names of keys and tables there."""
        return self.driver.options.key_prefix


def shared_system(app: Umbel, purpose: str) -> System:
    """The system that keeps limits for all workers of ``app``; nothing is connected yet.

    Raises ConfigurationError, which names ``purpose``, when neither broker nor result store can.
    """
    for driver in (app.broker, app.backend):
        for cls in type(driver).__mro__:
            family = _FAMILIES.get(f"{cls.__module__}.{cls.__qualname__}")
            if family is not None:
                return System(family, driver)
    names = f"{type(app.broker).__name__} and {type(app.backend).__name__}"
    raise ConfigurationError(
        f"{purpose} needs a store that all workers share, and neither broker nor result backend is one ({names}):"
        " set result_backend to Redis or a SQL database"
    )


def open_rates(app: Umbel, purpose: str) -> RateStore:
    """Where rates of the whole cluster are kept. Raises ConfigurationError as ``shared_system``."""
    system = shared_system(app, purpose)
    return importlib.import_module(_RATES[system.family]).open_store(system.driver, system.prefix)
