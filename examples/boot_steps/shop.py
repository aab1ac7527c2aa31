import json
from pathlib import Path
from typing import Any

import click

from umbel import Queue, Umbel, bootsteps
from umbel.brokers.base import Broker, Consumer, Delivery
from umbel.message import Message, new_id

app = Umbel("shop")
app.user_options["worker"].add(click.option("--heartbeat-file", help="Touched every second while the worker lives."))


class Heartbeat(bootsteps.StartStopStep):
    """Tells by a file that the worker lives."""

    requires = ("Timer",)
    conditional = True

    def __init__(self, worker: Any, heartbeat_file: str | None = None) -> None:
        super().__init__(worker)
        self.enabled = heartbeat_file is not None
        self.path = Path(heartbeat_file or "")

    def start(self, worker: Any) -> None:
        self.path.touch()
        self.beat = worker.timer.call_repeatedly(1.0, self.path.touch)

    def stop(self, worker: Any) -> None:
        self.beat.cancel()
        self.path.unlink(missing_ok=True)


class Orders(bootsteps.ConsumerStep):
    """Makes a task of each message in the queue `orders`, which other programs fill."""

    def get_consumers(self, broker: Broker) -> list[Consumer]:
        broker.declare(Queue("orders"))
        return [broker.consumer([Queue("orders")], name="orders")]

    def on_message(self, body: dict[str, Any], delivery: Delivery) -> None:
        ship.apply_async([body["item"]], task_id=body["id"])


app.steps["worker"].add(Heartbeat)
app.steps["consumer"].add(Orders)


@app.task
def ship(item: str) -> str:
    return f"sent: {item}"


def order(item: str) -> str:
    """What another program would do: put plain JSON into the queue. Returns the id under which it is shipped."""
    order_id = new_id()
    body = json.dumps({"item": item, "id": order_id}).encode()
    app.broker.publish([Message(id=new_id(), task="", queue="orders", headers=b"{}", body=body)])
    return order_id


if __name__ == "__main__":
    print(app.AsyncResult(order("tea")).get(timeout=10))
