"""``celery.app.amqp``: an application's queues and routes. There is no kombu below: brokers are Umbel's."""

from umbel.application.amqp import AMQP, Queues
from umbel.application.task_messages import task_message

__all__ = ["AMQP", "Queues", "task_message"]
