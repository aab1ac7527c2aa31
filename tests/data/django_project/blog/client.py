"""Sends tasks inside of transactions; prints what came of it as JSON."""

import json
import time

import django
from blogsite import celery_app

django.setup()

from django.db import connection, transaction  # noqa: E402

from blog.models import Post  # noqa: E402
from blog.tasks import write  # noqa: E402

with connection.schema_editor() as editor:
    editor.create_model(Post)


def titles(count):
    deadline = time.monotonic() + 20
    while Post.objects.count() < count and time.monotonic() < deadline:
        time.sleep(0.05)
    return sorted(Post.objects.values_list("title", flat=True))


answers = {"counted": write.delay("first").get(timeout=20), "once": celery_app.conf.ONCE}
with transaction.atomic():
    write.delay_on_commit("committed")
    write.apply_async_on_commit(("committed too",))
try:
    with transaction.atomic():
        write.delay_on_commit("rolled back")
        raise ValueError
except ValueError:
    pass
answers["titles"] = titles(3)
answers["last"] = write.delay("last").get(timeout=20)
print(json.dumps(answers))
