"""``celery.bin.migrate``: ``umbel migrate`` as a click command."""

from umbel.cli.migrate import migrate

__all__ = ["migrate"]
