"""Settings of Django and, by their prefix, of Celery; one of another package."""

import os

SECRET_KEY = "for tests"
INSTALLED_APPS = ["blog"]
DATABASES = {"default": {"ENGINE": "django.db.backends.sqlite3", "NAME": os.environ["BLOG_DATABASE"]}}
USE_TZ = True
CELERY_BROKER_URL = CELERY_RESULT_BACKEND = os.environ["BLOG_BROKER"]
CELERY_TASK_TRACK_STARTED = True
CELERY_ONCE = {"settings": {"timeout": 5}}
