"""``celery.app.amqp``: an application's queues and routes. There is no kombu below: brokers are Umbel's."""

from typing import Any

from umbel.application.amqp import AMQP, Queues
from umbel.compat.missing import refuse

__all__ = ["AMQP", "Queues"]


def __getattr__(name: str) -> Any:
    return refuse("celery.app.amqp", name)
