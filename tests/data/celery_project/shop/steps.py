"""Boot steps, and signals of the worker."""

from celery import bootsteps
from celery.signals import task_failure, task_postrun, task_prerun, task_retry, task_success, worker_ready
from celery.worker.components import Pool

from shop.ledger import note


class Greeting(bootsteps.StartStopStep):
    """Says that the pool has started."""

    requires = (Pool,)

    def start(self, worker):
        note("step", "greeting", "start")

    def stop(self, worker):
        note("step", "greeting", "stop")


class Census(bootsteps.StartStopStep):
    """Says that there is a connection."""

    requires = {"celery.worker.consumer.connection:Connection"}

    def start(self, consumer):
        note("step", "census", "start")


@worker_ready.connect
def ready(sender=None, **kwargs):
    note("signal", "worker_ready")


@task_prerun.connect
def prerun(task_id=None, task=None, **kwargs):
    if task.name == "shop.orders.tasks.watched":
        note("signal", "prerun", task_id == task.request.id)


@task_postrun.connect
def postrun(task=None, state=None, retval=None, **kwargs):
    if task.name == "shop.orders.tasks.watched":
        note("signal", "postrun", state, retval)


@task_success.connect
def success(sender=None, result=None, **kwargs):
    if sender.name == "shop.orders.tasks.watched":
        note("signal", "success", result)


@task_failure.connect()
def failure(sender=None, exception=None, args=None, **kwargs):
    if sender.name == "shop.orders.tasks.sell":
        note("signal", "failure", type(exception).__name__, list(args))


@task_retry.connect
def retry(request=None, reason=None, **kwargs):
    if request.task == "shop.orders.tasks.stubborn":
        note("signal", "retry", request.retries)
