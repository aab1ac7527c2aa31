"""Calls as messages, and queues by name: `app.amqp`."""

import datetime

from celery import Celery
from celery.app.amqp import task_message

app = Celery("x", broker="memory://", backend="redis://")
amqp = app.amqp
now = datetime.datetime(2020, 1, 1, tzinfo=datetime.UTC)
plain = amqp.as_task_v2("tid", "proj.add", origin="o")
full = amqp.as_task_v2(
    "tid", "proj.add", (1,), {"k": 2}, countdown=10, now=now, origin="o", root_id="r", parent_id="p", group_id="g",
    group_index=3, reply_to="rt", shadow="sh", time_limit=3, soft_time_limit=2, expires=5, create_sent_event=True,
    retries=2, chain=[], ignore_result=True, argsrepr="A", stamped_headers=["s"], s=["v"], replaced_task_nesting=1,
)  # fmt: skip
moment = amqp.as_task_v2("tid", "proj.add", origin="o", eta=now, expires=now + datetime.timedelta(days=1))
old = amqp.as_task_v1("tid", "proj.add", (1,), {"k": 2}, 10, now=now, reply_to="rt", time_limit=3, expires=5)
event = amqp.as_task_v1("tid", "proj.add", create_sent_event=True)
for each in (plain, full, moment, old, event):
    print(type(each) is task_message, each.headers)
    print(each.properties)
    print(each.body)
    print(sorted((each.sent_event or {}).items()))
try:
    amqp.as_task_v2("tid", "proj.add", args="text")
except TypeError:
    print("text is refused")

queues = amqp.queues
print(queues.format(), "|", queues.format(indent=2))
print(queues.new_missing("other").name, "other" in queues)
made = queues.add_compat("topical", exchange="e", exchange_type="topic", binding_key="bk", routing_key="rk")
print(made.name, queues["topical"].routing_key, queues["topical"].exchange.type)
print(amqp.autoexchange, amqp.publisher_pool is not None, amqp.create_task_message.__name__)
