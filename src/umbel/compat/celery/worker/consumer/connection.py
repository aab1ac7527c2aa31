"""``celery.worker.consumer.connection``."""

from umbel.worker.consumer import Connection

__all__ = ["Connection"]
