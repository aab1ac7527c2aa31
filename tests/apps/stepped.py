"""``apps.ledger`` with boot steps that write their hooks to the file STEPS_FILE, and do what STEPS_MISDEED says."""

from __future__ import annotations

import os
import threading
from typing import Any

import click

from apps.ledger import app
from umbel import Queue, bootsteps
from umbel.brokers.base import Action, Delivery, Note, Settlement

MISDEED = os.environ.get("STEPS_MISDEED", "")


def write(*words: object) -> None:
    line = " ".join(str(word) for word in words) + "\n"
    fd = os.open(os.environ["STEPS_FILE"], os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
    try:
        os.write(fd, line.encode())
    finally:
        os.close(fd)


class Writing(bootsteps.StartStopStep):
    """Writes ``<hook> <class>``."""

    def __init__(self, parent: Any, **options: Any) -> None:
        super().__init__(parent, **options)
        self._note("init")

    def create(self, parent: Any) -> None:
        self._note("create")

    def start(self, parent: Any) -> None:
        self._note("start")

    def close(self, parent: Any) -> None:
        self._note("close")

    def stop(self, parent: Any) -> None:
        self._note("stop")

    def terminate(self, parent: Any) -> None:
        self._note("terminate")

    def shutdown(self, parent: Any) -> None:
        self._note("shutdown")

    def _note(self, hook: str) -> None:
        write(hook, self.alias)
        if f"{self.alias}.{hook}" in MISDEED.split(":")[0]:
            if MISDEED.endswith(":hang"):
                threading.Event().wait()
            raise ValueError(f"no luck in {hook}")


class Base(Writing):
    """Starts before the executors."""

    def __init__(self, parent: Any, greeting: str | None = None, **options: Any) -> None:
        super().__init__(parent, **options)
        os.environ["GREETING"] = greeting or "none"


class AtPool(Writing):
    requires = ("celery.worker.components:Pool",)
    stop_timeout = 1.0


class Ticking(bootsteps.StartStopStep):
    requires = ("Timer",)

    def start(self, worker: Any) -> None:
        worker.timer.call_repeatedly(0.1, write, ("tick", worker.hostname))


class Loop(bootsteps.StartStopStep):
    """Hooks in the event loop."""

    async def start(self, worker: Any) -> None:
        write("start", self.alias, worker.stopping)

    async def stop(self, worker: Any) -> None:
        write("stop", self.alias, worker.stopping)


class AtLink(Writing):
    requires = ("Connection",)

    def start(self, c: Any) -> None:
        write("link", c.link is not None, c.controller.hostname == c.hostname)
        super().start(c)


class AfterTasks(Writing):
    requires = ("celery.worker.consumer.tasks:Tasks",)


class Orders(bootsteps.ConsumerStep):
    """Consumes the queue ``orders`` and the exchange ``news``."""

    conditional = True

    def __init__(self, c: Any, **options: Any) -> None:
        super().__init__(c, **options)
        self.enabled = "STEPS_CONSUME" in os.environ

    def get_consumers(self, broker: Any) -> list[Any]:
        broker.declare(Queue("orders"))
        return [broker.consumer([Queue("orders")], name="orders"), broker.listen("news")]

    def on_message(self, body: Any, delivery: Delivery) -> Settlement | None:
        if body["order"] == "impossible":
            raise ValueError("no such order")
        if body["order"] == "again" and not delivery.deliveries:
            write("order", "once")
            return Settlement(delivery, Action.REQUEUE, count=True)
        write("order", body["order"])
        app.tasks["apps.ledger.record"].apply_async(task_id=f"order-{body['order']}")
        return None

    def on_note(self, body: Any, note: Note) -> None:
        write("note", body["text"])


@app.task
def greeting() -> str:
    return os.environ["GREETING"]


if "DEAF_LINKS" in os.environ:
    import apps.deaf  # noqa: F401

app.steps["worker"].update([Base, AtPool, Ticking, Loop])
app.steps["consumer"].update([AtLink, AfterTasks, Orders])
app.user_options["worker"].add(click.option("--greeting"))
