"""``celery.bin.logtool``: ``umbel logtool`` as a click command."""

from umbel.cli.logtool import logtool

__all__ = ["logtool"]
