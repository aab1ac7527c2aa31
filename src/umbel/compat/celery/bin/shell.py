"""``celery.bin.shell``: ``umbel shell`` as a click command."""

from umbel.cli.shell import shell

__all__ = ["shell"]
