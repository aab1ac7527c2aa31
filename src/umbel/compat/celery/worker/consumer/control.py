"""``celery.worker.consumer.control``."""

from umbel.worker.remote import RemoteControl as Control

__all__ = ["Control"]
