"""Importing this module is ``install_as_celery()``: for ``pytest -p umbel.compat.auto`` and for ``.pth`` files."""

from umbel.compat.finder import install_as_celery

install_as_celery()
