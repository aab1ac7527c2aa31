"""Celery projects on Umbel, unchanged."""
