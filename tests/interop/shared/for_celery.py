"""The application of a real Celery: ``celery -A shared.for_celery worker``."""

import os

from celery import Celery
from shared.tasks import define

app = define(Celery("interop", broker=os.environ["INTEROP_BROKER"], backend=os.environ["INTEROP_BACKEND"]), "celery")
app.conf.update(
    accept_content=os.environ.get("INTEROP_ACCEPT", "json").split(","),
    result_accept_content=["json", "pickle"],
    task_acks_late=True,
    worker_prefetch_multiplier=1,
    broker_connection_retry_on_startup=True,
    task_protocol=int(os.environ.get("INTEROP_PROTOCOL", "2")),
)
