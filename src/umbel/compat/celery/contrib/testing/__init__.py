"""``celery.contrib.testing``: tools for tests."""
