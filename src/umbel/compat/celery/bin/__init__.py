"""``celery.bin``: the commands that Umbel has, as click commands."""
