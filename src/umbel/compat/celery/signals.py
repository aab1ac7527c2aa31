"""``celery.signals``: Umbel's signals have Celery's names and arguments."""

from umbel.signals import *  # noqa: F403
from umbel.signals import __all__ as __all__
