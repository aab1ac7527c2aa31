"""``celery.worker.consumer.tasks``."""

from umbel.worker.consumer import Tasks

__all__ = ["Tasks"]
