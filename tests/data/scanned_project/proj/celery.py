import celery.app.trace
from celery import Celery
from celery import bootsteps as steps
from celery.signals import beat_init, worker_ready

app = Celery("proj", broker="redis://localhost", backend="elasticsearch://localhost", task_cls=None, worker_timer="x")
app.config_from_object("proj.settings", namespace="CELERY")
app.conf.beat_scheduler = "celery.beat:PersistentScheduler"
app.conf["task_default_qeue"] = "mine"
app.conf.update({"worker_pool_putlocks": False}, ONCE={"a": 1}, task_acks_late=True)
app.extension = {}
print(app.extension, app.tasks, app.no_such_part, celery.app.trace.build_tracer)
app.control.revoke("id")
app.control.conjure("id")


class Step(steps.ConsumerStep):
    requires = ("celery.worker.consumer:Gossip",)
