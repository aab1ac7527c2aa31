"""``celery.backends.redis``: results in Redis."""

from umbel.backends.redis import RedisBackend

__all__ = ["RedisBackend"]
