"""Tasks that use the database."""

from celery import shared_task

from blog.models import Post


@shared_task
def write(title):
    Post.objects.create(title=title)
    return Post.objects.count()
