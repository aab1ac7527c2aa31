"""``celery.bin.graph``: ``umbel graph`` as a click command."""

from umbel.cli.graph import graph

__all__ = ["graph"]
