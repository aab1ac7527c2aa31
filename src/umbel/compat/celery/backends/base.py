"""``celery.backends.base``: what result stores have in common. The interface is Umbel's, not Celery's."""

from umbel.backends.base import Backend
from umbel.backends.disabled import DisabledBackend

__all__ = ["Backend", "DisabledBackend"]
