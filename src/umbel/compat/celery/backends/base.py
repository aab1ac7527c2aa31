"""``celery.backends.base``: what result stores have in common. The interface is Umbel's, not Celery's."""

from typing import Any

from umbel.backends.base import Backend
from umbel.backends.disabled import DisabledBackend
from umbel.compat.missing import refuse

__all__ = ["Backend", "DisabledBackend"]


def __getattr__(name: str) -> Any:
    return refuse("celery.backends.base", name)
