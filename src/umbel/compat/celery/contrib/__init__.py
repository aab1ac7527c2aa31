"""``celery.contrib``: tools for projects and their tests."""
