"""Processes of the broker suite. What they do is named by ``act``; each line they print is one JSON value."""

from __future__ import annotations

import json
import sys
import threading
from typing import Any

from conformance.waiting import end_with_parent
from umbel.brokers import open_broker
from umbel.brokers.base import Broker, Settlement
from umbel.queues import Queue


def say(value: Any) -> None:
    print(json.dumps(value), flush=True)


def work(broker: Broker, queue: Queue, told: threading.Event) -> None:
    """Consume until the parent tells to stop, and print the ids settled, batch by batch."""
    with broker.consumer([queue], name="work@test", lease=60.0) as consumer:
        say("ready")
        while not told.is_set():
            held = consumer.receive(50, 0.2)
            while held:
                ids = [delivery.message.id for delivery in held]
                settled = consumer.settle([Settlement(delivery) for delivery in held], want=50)
                assert not settled.stale
                say(ids)
                held = settled.deliveries


def hold(broker: Broker, queue: Queue, told: threading.Event, count: int, lease: float) -> None:
    """Claim ``count`` messages, print their ids, and keep them, renewing the lease, until killed."""
    consumer = broker.consumer([queue], name="hold@test", lease=lease)
    ids: list[str] = []
    while len(ids) < count:
        ids += [delivery.message.id for delivery in consumer.receive(count - len(ids), 1.0)]
        consumer.renew()
    say(ids)
    while not told.wait(lease / 5):
        consumer.renew()


def peek(broker: Broker, queue: Queue, told: threading.Event) -> None:
    """Print the ids of ready messages."""
    say([message.id for message in broker.peek(queue.name, 100)])


ACTS = {"work": work, "hold": hold, "peek": peek}


def main() -> None:
    told = end_with_parent()
    arguments = json.loads(sys.argv[1])
    broker = open_broker(arguments.pop("url"))
    queue = Queue(arguments.pop("queue"), **arguments.pop("fields"))
    ACTS[arguments.pop("act")](broker, queue, told, **arguments)
    broker.close()


if __name__ == "__main__":
    main()
