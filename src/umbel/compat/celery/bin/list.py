"""``celery.bin.list``: ``umbel list`` as a click command."""

from umbel.cli.listing import listing as list_

__all__ = ["list_"]
