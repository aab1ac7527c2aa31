"""Celery projects on Umbel, unchanged.

    from umbel.compat import install_as_celery

    install_as_celery()

    from celery import Celery, shared_task  # Umbel's

``finder`` answers imports of ``celery`` (and of ``kombu`` and ``billiard`` where these are not installed) with the
modules of ``umbel.compat.celery``, ``.kombu`` and ``.billiard``, each of which exists once, under both names.
``missing`` says which parts of Celery are not there, and why. ``python -m umbel.compat PATH`` (``scan``) lists what a
project uses of Celery that Umbel does not have or does in another way. How to use all this:
``docs/how-to/celery.md``.
"""

from umbel.compat.finder import install_as_celery, installed

__all__ = ["install_as_celery", "installed"]
