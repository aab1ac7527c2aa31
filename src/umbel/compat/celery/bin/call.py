"""``celery.bin.call``: ``umbel call`` as a click command."""

from umbel.cli.call import call

__all__ = ["call"]
