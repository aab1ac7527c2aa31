"""``kombu.utils``: a few tools that projects import from there."""

from umbel.compat.kombu.utils.imports import symbol_by_name
from umbel.compat.kombu.utils.uuid import uuid

__all__ = ["symbol_by_name", "uuid"]
