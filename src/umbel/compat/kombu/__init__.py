"""``kombu`` where the real one is not installed: queues and exchanges, serializers, and a few tools.

What talks to brokers by itself (``Connection``, ``Producer``, ``Consumer``) is not here. With the real kombu installed
none of this is used: its queues work in ``task_queues`` too, its serializers do not
(``umbel.codecs.register_serializer`` takes the same arguments).
"""

from typing import Any

from umbel.compat.kombu.entity import Exchange, Queue, binding
from umbel.compat.missing import refuse
from umbel.message import new_id as uuid

__all__ = ["Exchange", "Queue", "binding", "uuid"]


def __getattr__(name: str) -> Any:
    return refuse("kombu", name)
