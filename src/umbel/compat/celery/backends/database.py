"""``celery.backends.database``: results in SQL databases."""

from umbel.backends.sql import SQLBackend as DatabaseBackend

__all__ = ["DatabaseBackend"]
