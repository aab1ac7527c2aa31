"""Tasks about orders."""

import time

from celery import Task, chord, current_task, shared_task
from celery.app import shared_task as shared_task_too
from celery.exceptions import Ignore, SoftTimeLimitExceeded
from celery.utils.log import get_task_logger

from shop.errors import OutOfStock
from shop.ledger import note

logger = get_task_logger(__name__)


class Handling(Task):
    """A base class with handlers and state that lasts."""

    abstract = True
    calls = 0

    def before_start(self, task_id, args, kwargs):
        self.calls += 1

    def on_success(self, retval, task_id, args, kwargs):
        note("handler", "success", retval)

    def on_failure(self, exc, task_id, args, kwargs, einfo):
        note("handler", "failure", type(exc).__name__, "OutOfStock" in str(einfo))

    def after_return(self, status, retval, task_id, args, kwargs, einfo):
        note("handler", "after", status)


@shared_task
def add(x, y):
    logger.info("adding %s and %s", x, y)
    return x + y


@shared_task_too(name="shop.total")
def total(numbers):
    return sum(numbers)


@shared_task(bind=True)
def watched(self, word="seen"):
    return f"{word} {self.request.retries} {current_task.name}"


@shared_task(base=Handling, bind=True)
def handled(self, fail):
    if fail:
        raise OutOfStock("handled")
    return self.calls > 0


@shared_task
def sell(item, left):
    if not left:
        raise OutOfStock(item, left)
    return left - 1


@shared_task(bind=True, max_retries=3, default_retry_delay=0)
def stubborn(self, until):
    if self.request.retries < until:
        try:
            raise OutOfStock("not yet")
        except OutOfStock as error:
            raise self.retry(exc=error, countdown=0) from error
    return self.request.retries


@shared_task(autoretry_for=(OutOfStock,), retry_kwargs={"max_retries": 2, "countdown": 0}, bind=True)
def eager_to_retry(self):
    raise OutOfStock(self.request.retries)


@shared_task(bind=True)
def audit(self):
    return self.request.delivery_info["routing_key"]


@shared_task(bind=True)
def annotated(self):
    return self.priority


@shared_task(bind=True)
def facts(self, *args, **kwargs):
    request = self.request
    return {
        "args": list(request.args),
        "kwargs": request.kwargs,
        "own": request.id == current_task.request.id,
        "root": request.root_id == request.id,
        "parent": request.parent_id,
        "group": request.group is not None,
        "headers": (request.headers or {}).get("tenant"),
        "eager": request.is_eager,
        "limits": request.timelimit,
        "name": self.name,
        "app": self.app.main,
    }


@shared_task(bind=True)
def stateful(self):
    self.update_state(state="HALFWAY", meta={"done": 1})
    deadline = time.monotonic() + 10
    while f"seen {self.request.id}" not in _ledger() and time.monotonic() < deadline:
        time.sleep(0.02)
    return "finished"


def _ledger():
    from shop.ledger import lines

    return lines()


@shared_task(bind=True, ignore_result=False)
def ignoring(self):
    self.update_state(state="SKIPPED", meta="by hand")
    raise Ignore()


@shared_task(soft_time_limit=0.3)
def slow():
    try:
        time.sleep(10)
    except SoftTimeLimitExceeded:
        return "cut short"
    return "too late"


@shared_task(bind=True)
def replaced(self, numbers):
    raise self.replace(chord((add.s(number, 1) for number in numbers), total.s()))


@shared_task(bind=True)
def spawning(self):
    return [add.delay(1, 1).id, add.delay(2, 2).id]


@shared_task
def failed(request, exc, traceback):
    note("errback", type(exc).__name__, bool(traceback), request.id is not None)


@shared_task(ignore_result=True)
def remember(value):
    note("callback", value)


class Report(Task):
    """A task written as a class; registered by the application."""

    name = "shop.report"
    ignore_result = False

    def run(self, *parts):
        return "-".join(str(part) for part in parts)
