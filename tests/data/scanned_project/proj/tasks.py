from typing import TYPE_CHECKING

import kombu
from celery import Task, chain, shared_task
from kombu import Connection, Queue

from proj import app

if TYPE_CHECKING:
    from celery.events import EventReceiver

try:
    from celery.beat import Scheduler
except ImportError:
    Scheduler = None


class Base(Task):
    Strategy = "proj.strategies:own"


@app.task(bind=True, backend="redis://", max_retries=2, anything="else")
def add(self, x, y):
    return self.request.retries, chain, Queue, kombu.Producer


@shared_task
def other():
    add.apply_async((1, 2), countdown=1, tenant="t")
    add.apply_async((1, 2), stamped_headers=["tenant"], tenant="t")
    Pool().apply_async(other, kwds={})
    return add.delay(1, 2)


class Pool:
    def apply_async(self, *args, **kwargs):
        raise NotImplementedError
