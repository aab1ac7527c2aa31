"""A Django project with Celery, as the documentation of both describes it. Nothing in it knows of Umbel."""

from .celery import app as celery_app

__all__ = ("celery_app",)
