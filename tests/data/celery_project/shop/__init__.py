"""A Celery project, in the manner of Celery's documentation. Nothing in it knows of Umbel; the tests run it on both."""

from .celery import app as celery_app

__all__ = ("celery_app",)
