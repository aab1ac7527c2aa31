"""``celery.loaders.app``: the loader of applications that are configured in code."""

from umbel.compat.celery.loaders.base import BaseLoader

__all__ = ["AppLoader"]


class AppLoader(BaseLoader):
    """Reads no configuration module of its own accord."""
