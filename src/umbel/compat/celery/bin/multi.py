"""``celery.bin.multi``: ``umbel multi`` as a click command."""

from umbel.cli.multi import multi

__all__ = ["multi"]
