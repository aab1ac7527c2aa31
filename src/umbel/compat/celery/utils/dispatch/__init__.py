"""``celery.utils.dispatch``: signals."""

from umbel.signals import Signal

__all__ = ["Signal"]
