"""``celery``: the names of Celery's top level."""
