"""``amqp://`` and ``amqps://``: RabbitMQ 3.8 to 4, on Celery's exchanges, queues and message format.

Three kinds of connection, each opened on first use: one to publish (all threads share it), one for administration,
listeners and locks, which the broker does not block when it is short of memory, and one for each consumer.

* A message is persistent, mandatory, and confirmed before ``publish`` returns. After a connection that broke in the
  middle, what was not confirmed is sent again, so it may be there twice. After PublishTimeout it may still arrive.
* Priorities are AMQP's own: 9 goes first, in queues declared with ``max_priority``. Quorum queues before RabbitMQ 4
  ignore them, and 4 keeps two apart (0–4, 5–9).
* ``size`` counts ready, parked and dead messages; held and delayed ones (-1) AMQP does not tell. ``queues`` lists what
  this object has declared. ``purge`` and ``delete`` look through all delayed messages of the virtual host.
* Queues that nobody declared are classic, or what the option ``queue_type`` says.

RabbitMQ closes the channel of a consumer that holds a message longer than ``consumer_timeout`` (30 minutes by default);
the task is then delivered again. Raise it on the server where tasks run longer, or acknowledge early.
"""

from __future__ import annotations

import time
from collections.abc import Collection, Sequence
from typing import Any

from umbel.brokers.amqp.addresses import addresses
from umbel.brokers.amqp.aside import Aside, dead_queue, parked_queue
from umbel.brokers.amqp.channels import channel
from umbel.brokers.amqp.consumer import AMQPConsumer
from umbel.brokers.amqp.delays import Delays
from umbel.brokers.amqp.fanout import AMQPListener, fanout_exchange, note_post
from umbel.brokers.amqp.locks import AMQPLock, Holders
from umbel.brokers.amqp.posts import Post, post_to
from umbel.brokers.amqp.publisher import Publisher
from umbel.brokers.amqp.session import Session, Sessions
from umbel.brokers.amqp.topology import (
    QUEUE_TYPE,
    Topology,
    declare_exchange,
    delete_queue,
    purge_queue,
    ready_count,
)
from umbel.brokers.base import (
    Broker,
    Consumer,
    DeadLetter,
    Features,
    Listener,
    Lock,
    Note,
    Options,
    QueueSize,
)
from umbel.errors import PublishTimeout, UmbelError, UnroutableMessage
from umbel.message import Message, now
from umbel.queues import Queue

_ANSWER_TIMEOUT = 30.0
_AT_ONCE = 500
_NOTICEABLE = 0.02
"""Seconds that declaring delay queues may take before the delays are computed anew."""


class AMQPBroker(Broker):
    """See the module's docstring."""

    features = Features(leases=False, survives_reconnect=False, locates=False)

    def __init__(self, url: str, options: Options | None = None) -> None:
        super().__init__(url, options)
        self._servers = addresses(url, self.options)
        self._begin()

    def _begin(self) -> None:
        options = self.options
        self._publisher = Publisher(self._servers, options.connect_timeout, self._make_queue)
        self._service = Sessions(self._servers, "service", options.connect_timeout)
        self._topology = Topology(self._channel, self._new_queue)
        queue_type = str(options.transport.get("native_delayed_delivery_queue_type", "quorum"))
        self._delays = Delays(self._channel, self._topology, queue_type)
        self._aside = Aside(self._channel, self._publish, self._topology.is_quorum)
        self._holders = Holders()
        self._exchanges: set[str] = set()

    def _channel(self, deadline: float | None = None) -> Any:
        """A channel for a piece of work, which ends at ``deadline`` (``time.monotonic``) if that is given."""
        return channel(self._service.get(deadline), _ANSWER_TIMEOUT, deadline)

    def _service_session(self) -> Session:
        return self._service.get()

    def _new_queue(self, name: str) -> Queue:
        """What a queue is that nobody described: Umbel's own ones are classic, others as the option says."""
        queue_type = self.options.transport.get("queue_type")
        if not queue_type or name.endswith((dead_queue(""), parked_queue(""))):
            return Queue(name)
        return Queue(name, queue_arguments={QUEUE_TYPE: queue_type})

    def _make_queue(self, name: str) -> None:
        self._topology.make(name)

    # -- publishing --

    def publish(self, messages: Sequence[Message], timeout: float | None = None) -> None:
        if not messages:
            return
        limit = self.options.publish_timeout if timeout is None else timeout
        started = time.monotonic()
        deadline = started + limit
        posts = [self.post(message) for message in messages]
        if time.monotonic() - started > _NOTICEABLE and any(message.eta is not None for message in messages):
            posts = [self.post(message) for message in messages]
        self._publisher.publish(posts, max(0.001, deadline - time.monotonic()))

    def post(self, message: Message) -> Post:
        """``message`` as it is sent: delayed when its ``eta`` is to come, else by its exchange or to its queue."""
        if message.eta is not None and not self.options.mixed_fleet and (delay := message.eta - now()) > 0:
            return self._delayed(message, delay)
        if message.exchange:
            return post_to(message, message.exchange, message.routing_key)
        if not message.queue:
            raise UnroutableMessage(f"task {message.task or message.id!r} names neither queue nor exchange")
        return post_to(message, "", message.queue, queue=message.queue)

    def _delayed(self, message: Message, delay: float) -> Post:
        exchange, key = self._delays.route(delay, message.queue, message.exchange, message.routing_key)
        return post_to(message, exchange, key, expiration="")

    def requeue_route(self, queue: str, delay: float) -> tuple[str, str]:
        """Exchange and routing key by which a message comes back to ``queue`` after ``delay`` seconds."""
        return self._delays.route(delay, queue) if delay > 0 else ("", queue)

    def prepare_delays(self) -> None:
        self._delays.prepare()

    def is_quorum(self, queue: str) -> bool:
        return self._topology.is_quorum(queue)

    def send(self, posts: Sequence[Post]) -> list[UmbelError | None]:
        """What became of each post. Each ``_AT_ONCE`` of them are given ``publish_timeout``, so that many of them may
        take their time, and nothing is sent twice for that; the rest is not tried once that is exceeded."""
        outcomes: list[UmbelError | None] = []
        for start in range(0, len(posts), _AT_ONCE):
            outcomes += self._publisher.send(posts[start : start + _AT_ONCE], self.options.publish_timeout)
            if isinstance(late := outcomes[-1], PublishTimeout):
                return outcomes + [late] * (len(posts) - len(outcomes))
        return outcomes

    def _publish(self, posts: Sequence[Post]) -> None:
        self._publisher.publish(posts, self.options.publish_timeout)

    # -- consuming --

    def consumer(self, queues: Sequence[Queue], *, name: str, lease: float = 5.0, window: int = 0) -> Consumer:
        sessions = Sessions(self._servers, f"consumer {name}", self.options.connect_timeout)
        try:
            return AMQPConsumer(self, sessions, queues)
        except UmbelError:
            sessions.close()
            raise

    # -- administration --

    def declare(self, queue: Queue, timeout: float | None = None) -> None:
        deadline = None if timeout is None else time.monotonic() + timeout
        self._topology.declare(queue, deadline)
        self._delays.serve_celery(queue, deadline)

    def queues(self) -> list[str]:
        return self._topology.names()

    def size(self, queue: str) -> QueueSize:
        ready = self._ready(queue)
        if ready is None:
            return QueueSize()
        return QueueSize(
            ready=ready,
            delayed=-1,
            held=-1,
            parked=self._ready(parked_queue(queue)) or 0,
            dead=self._ready(dead_queue(queue)) or 0,
        )

    def _ready(self, queue: str) -> int | None:
        with self._channel() as opened:
            return ready_count(opened, queue)

    def peek(self, queue: str, limit: int = 10) -> list[Message]:
        return self._aside.peek(queue, limit)

    def purge(self, queue: str) -> int:
        delayed = self._aside.purge_delayed(queue)
        if self._ready(queue) is None:
            return delayed
        with self._channel() as opened:
            return delayed + purge_queue(opened, queue)

    def delete(self, queue: str) -> None:
        self._aside.purge_delayed(queue)
        for name in (queue, dead_queue(queue), parked_queue(queue)):
            with self._channel() as opened:
                delete_queue(opened, name)
            self._topology.forget(name)
        self._delays.forget(queue)

    def dead_letters(self, queue: str, limit: int = 100) -> list[DeadLetter]:
        return self._aside.dead_letters(queue, limit)

    def replay(self, queue: str, ids: Collection[str] | None = None) -> int:
        return self._aside.replay(queue, ids)

    def purge_dead(self, queue: str, ids: Collection[str] | None = None) -> int:
        return self._aside.purge_dead(queue, ids)

    def parked(self, queue: str) -> dict[str, int]:
        return self._aside.parked(queue)

    def unpark(self, queue: str, tasks: Collection[str]) -> int:
        return self._aside.unpark(queue, tasks)

    # -- fan-out and locks --

    def broadcast(self, exchange: str, note: Note) -> None:
        if exchange not in self._exchanges:
            with self._channel() as opened:
                declare_exchange(opened, fanout_exchange(exchange))
            self._exchanges.add(exchange)
        try:
            self._publish([note_post(exchange, note)])
        except UnroutableMessage:
            self._exchanges.discard(exchange)
            raise

    def listen(self, exchange: str, pattern: str = "#") -> Listener:
        return AMQPListener(self._service_session, exchange, pattern, _ANSWER_TIMEOUT)

    def lock(self, name: str, ttl: float) -> Lock:
        return AMQPLock(self._service_session, self._holders, name, ttl, _ANSWER_TIMEOUT)

    # -- life --

    def close(self) -> None:
        self._publisher.close()
        self._service.close()

    def after_fork(self) -> None:
        self._begin()
