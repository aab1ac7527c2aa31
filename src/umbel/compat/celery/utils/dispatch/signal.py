"""``celery.utils.dispatch.signal``: Umbel's signals, which are used as Celery's are."""

from umbel.signals import Signal

__all__ = ["Signal"]
