"""``celery.contrib.testing.tasks``: the task that asks a worker whether it works."""

from umbel.testing.tasks import ping

__all__ = ["ping"]
