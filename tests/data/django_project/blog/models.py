"""Posts."""

from django.db import models


class Post(models.Model):
    """One."""

    title = models.CharField(max_length=100)
