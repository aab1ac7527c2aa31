"""``celery.bin.upgrade``: ``umbel upgrade`` as a click command."""

from umbel.cli.upgrade import upgrade

__all__ = ["upgrade"]
