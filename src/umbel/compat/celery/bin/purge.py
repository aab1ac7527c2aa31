"""``celery.bin.purge``: ``umbel purge`` as a click command."""

from umbel.cli.purge import purge

__all__ = ["purge"]
