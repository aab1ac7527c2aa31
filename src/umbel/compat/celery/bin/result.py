"""``celery.bin.result``: ``umbel result`` as a click command."""

from umbel.cli.result import result

__all__ = ["result"]
