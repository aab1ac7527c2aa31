"""``celery.worker.consumer.consumer``."""

from umbel.worker.consumer import WorkerConsumer as Consumer

__all__ = ["Consumer"]
