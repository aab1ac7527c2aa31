"""``celery.contrib.django``: tasks of Django projects."""
