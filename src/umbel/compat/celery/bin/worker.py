"""``celery.bin.worker``: ``umbel worker`` as a click command."""

from umbel.cli.worker import worker

__all__ = ["worker"]
