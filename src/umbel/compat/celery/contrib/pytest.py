"""``celery.contrib.pytest``: Celery's fixtures."""

from umbel.testing.celery_fixtures import *  # noqa: F403
