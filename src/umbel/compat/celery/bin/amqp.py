"""``celery.bin.amqp``: ``umbel amqp`` as a click command."""

from umbel.cli.amqp import amqp

__all__ = ["amqp"]
