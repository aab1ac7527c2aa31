"""``celery.worker.consumer``: the consuming side of a worker and its steps, for ``requires``."""

from typing import Any

from umbel.compat.missing import refuse
from umbel.worker.consumer import Connection, Tasks
from umbel.worker.consumer import WorkerConsumer as Consumer
from umbel.worker.remote import RemoteControl as Control

__all__ = ["Connection", "Consumer", "Control", "Tasks"]


def __getattr__(name: str) -> Any:
    return refuse("celery.worker.consumer", name)
