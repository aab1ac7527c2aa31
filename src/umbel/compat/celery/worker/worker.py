"""``celery.worker.worker``: the worker, as signals and boot steps get it."""

from umbel.worker.supervisor import Worker as WorkController

__all__ = ["WorkController"]
