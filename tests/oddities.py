"""One worker of ``apps.odd`` for many tests, and what must be true of it after each: nothing lost, nothing held."""

from __future__ import annotations

import contextlib
import importlib
import json
import os
import sqlite3
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack
from pathlib import Path
from types import ModuleType
from typing import Any

import services
from umbel.brokers.base import DeadLetter
from umbel.message import new_id
from workers import Fleet, WorkerProcess, wait_for

TIMEOUT = 10
QUEUE = "celery"


def find_urls(system: str, directory: Path, places: ExitStack) -> tuple[str, str]:
    """Broker and result store for a system, until ``places`` are closed; RabbitMQ's results are in Redis."""
    if system == "sqlite":
        url = f"sqlite:///{directory / 'umbel.db'}"
        return url, url
    url = places.enter_context(services.isolated(system))
    return url, places.enter_context(services.isolated("redis")) if system == "rabbitmq" else url


class Node:
    """A worker with one executor, and ``tasks``: ``apps.odd`` in this process, connected to the same broker."""

    def __init__(self, system: str, urls: tuple[str, str], directory: Path) -> None:
        self.system = system
        self.urls = urls
        self.directory = directory
        self.environment = Fleet(directory, *urls).environment
        self.workers: list[WorkerProcess] = []
        os.environ.update(self.environment)
        sys.modules.pop("apps.odd", None)
        self.tasks: ModuleType = importlib.import_module("apps.odd")
        self.broker = self.tasks.app.broker

    # -- workers --

    def start(self, *arguments: str, environment: Mapping[str, str] | None = None) -> WorkerProcess:
        log = self.directory / f"odd-{len(self.workers)}.log"
        settings = self.environment | dict(environment or {})
        worker = WorkerProcess(settings, log, "-c", "1", *arguments, app="apps.odd")
        self.workers.append(worker)
        return worker.wait_ready()

    @property
    def worker(self) -> WorkerProcess:
        """The one that all tests share; another one only if a test has stopped it."""
        if not self.workers or self.workers[-1].process.poll() is not None:
            self.start()
        return self.workers[-1]

    def close(self) -> None:
        for worker in self.workers:
            worker.kill()
        self.tasks.app.close()
        sys.modules.pop("apps.odd", None)
        for name in self.environment:
            os.environ.pop(name, None)

    # -- what must hold --

    def check_healthy(self) -> None:
        """The same worker still works, and neither holds nor leaves anything."""
        worker = self.worker
        pid = worker.process.pid
        assert self.tasks.add.delay(1, 1).get(timeout=TIMEOUT) == 2
        wait_for(self.is_settled, TIMEOUT, f"nothing is left: {self.broker.size(QUEUE)}")
        assert worker.process.poll() is None and self.worker.process.pid == pid

    @contextlib.contextmanager
    def fresh_if_unhealthy(self) -> Iterator[None]:
        """When the block fails, the next test gets another worker and an empty queue: one failure is not many."""
        try:
            yield
        except BaseException:
            self.worker.kill()
            self.broker.delete(QUEUE)
            raise

    def is_settled(self) -> bool:
        size = self.broker.size(QUEUE)
        return size.ready <= 0 and size.held <= 0 and size.delayed <= 0

    def take_dead_letter(self, task_id: str = "") -> DeadLetter:
        """Wait for the dead letter of ``task_id`` (or the only one) and remove it."""

        def found() -> DeadLetter | None:
            letters = self.broker.dead_letters(QUEUE)
            return next((letter for letter in letters if not task_id or letter.message.id == task_id), None)

        letter = wait_for(found, TIMEOUT, f"dead letter of {task_id}\n{self.worker.output()[-3000:]}")
        self.broker.purge_dead(QUEUE, [letter.id])
        return letter

    # -- messages as foreign clients write them --

    def inject(
        self,
        headers: Any = None,
        body: Any = b"[[1, 1], {}, {}]",
        *,
        content_type: str = "application/json",
        content_encoding: str = "utf-8",
    ) -> str:
        """Put a message into the queue behind Umbel's back. ``headers``: a dict, or bytes as they are; ``body``:
        bytes, or what is written as JSON. Returns the id in the headers."""
        if headers is None:
            headers = call()
        raw = headers if isinstance(headers, bytes) else json.dumps(headers).encode()
        payload = body if isinstance(body, bytes) else json.dumps(body).encode()
        _INJECT[self.system](self.urls[0], raw, payload, content_type, content_encoding)
        return headers.get("id", "") if isinstance(headers, dict) else ""

    def inject_raw(self, data: bytes) -> None:
        """A queue entry that is no message at all (Redis)."""
        import redis

        with redis.Redis.from_url(self.urls[0]) as server:
            server.lpush(QUEUE, data)


def call(task: str = "apps.odd.add", **headers: Any) -> dict[str, Any]:
    """The least headers of a call, and more."""
    return {"task": task, "id": new_id(), **headers}


@contextlib.contextmanager
def node(system: str, directory: Path) -> Iterator[Node]:
    with ExitStack() as places:
        made = Node(system, find_urls(system, directory, places), directory)
        try:
            yield made
        finally:
            made.close()


# -- injection -------------------------------------------------------------------------------------


def _task_of(headers: bytes) -> str:
    try:
        return str(json.loads(headers)["task"])
    except (ValueError, LookupError, TypeError, RecursionError):
        return ""


def _into_sqlite(url: str, headers: bytes, body: bytes, content_type: str, content_encoding: str) -> None:
    row = {
        "queue": QUEUE,
        "urgency": 0,
        "priority": 0,
        "state": 0,
        "due": 0.0,
        "task": _task_of(headers),
        "headers": headers,
        "body": body,
        "content_type": content_type,
        "content_encoding": content_encoding,
        "reply_to": "",
        "correlation_id": "",
        "exchange": "",
        "routing_key": QUEUE,
    }
    with contextlib.closing(sqlite3.connect(url.removeprefix("sqlite:///"), timeout=10)) as database, database:
        database.execute(
            f"INSERT INTO umbel_messages ({', '.join(row)}) VALUES ({', '.join('?' * len(row))})", list(row.values())
        )


def _into_redis(url: str, headers: bytes, body: bytes, content_type: str, content_encoding: str) -> None:
    import base64

    import redis

    properties = {
        "delivery_info": {"exchange": "", "routing_key": QUEUE},
        "delivery_tag": new_id(),
        "body_encoding": "base64",
    }
    envelope = b'{"body": "%s", "headers": %s, "content-type": "%s", "content-encoding": "%s", "properties": %s}' % (
        base64.b64encode(body),
        headers,
        content_type.encode(),
        content_encoding.encode(),
        json.dumps(properties).encode(),
    )
    with redis.Redis.from_url(url) as server:
        server.lpush(QUEUE, envelope)


def _into_rabbitmq(url: str, headers: bytes, body: bytes, content_type: str, content_encoding: str) -> None:
    import pika

    table = json.loads(headers)
    properties = pika.BasicProperties(
        headers=table, content_type=content_type, content_encoding=content_encoding, delivery_mode=2
    )
    with contextlib.closing(pika.BlockingConnection(pika.URLParameters(url))) as connection:
        channel = connection.channel()
        channel.confirm_delivery()
        channel.basic_publish("", QUEUE, body, properties, mandatory=True)


_INJECT: Mapping[str, Callable[[str, bytes, bytes, str, str], None]] = {
    "sqlite": _into_sqlite,
    "redis": _into_redis,
    "rabbitmq": _into_rabbitmq,
}
