"""``celery.backends.redis``: results in Redis."""

from typing import Any

from umbel.backends.redis import RedisBackend
from umbel.compat.missing import refuse

__all__ = ["RedisBackend"]


def __getattr__(name: str) -> Any:
    return refuse("celery.backends.redis", name)
