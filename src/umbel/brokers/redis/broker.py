"""Redis as the broker: queues that Celery's clients and workers share, with leases, delays and dead letters of ours.

Needs Redis 6.2 or newer, or a server that speaks its protocol. Every step that must be atomic is one Lua script
(``scripts``); key names are in ``keys``. The claim order is 9 first unless ``lowest_priority_first``.
The rights that an ACL user needs are listed in ``docs/how-to/redis.md``, where a test reads them.
"""

from __future__ import annotations

import logging
from collections.abc import Collection, Sequence
from typing import TYPE_CHECKING

from umbel.backends.redis_results import prefix_of
from umbel.brokers.base import (
    Broker,
    Consumer,
    DeadLetter,
    Features,
    Listener,
    Lock,
    Note,
    Options,
    Place,
    QueueSize,
)
from umbel.brokers.redis.admin import Administration
from umbel.brokers.redis.consumer import RedisConsumer
from umbel.brokers.redis.fanout import RedisListener, RedisLock, encode_note
from umbel.brokers.redis.keys import STEPS, Keys
from umbel.brokers.redis.link import ANSWER_TIMEOUT, Links
from umbel.brokers.redis.publisher import Publishing
from umbel.brokers.redis.revocations import RedisRevocations
from umbel.brokers.redis.server import server_of
from umbel.errors import OperationalError
from umbel.message import Message
from umbel.queues import Queue
from umbel.revocations import Revocations

if TYPE_CHECKING:
    from umbel.backends.base import Backend

log = logging.getLogger(__name__)


class RedisBroker(Broker):
    """See the module's docstring."""

    features = Features(priorities=len(STEPS))

    def __init__(self, url: str, options: Options | None = None) -> None:
        super().__init__(url, options)
        self.server = server_of(
            url,
            connect_timeout=self.options.connect_timeout,
            ssl=self.options.ssl,
            transport=self.options.transport,
        )
        self.keys = Keys(self.options.key_prefix)
        self.links = Links(self.server)
        self.publishing = Publishing(self.links, self.keys, self.options)
        self._administration = Administration(self.links, self.keys, self.options)
        self.results_prefix = ""
        """What stands before the keys of results that come with settlements (see ``stores_results_of``)."""

    # -- publishing and consuming --

    def publish(self, messages: Sequence[Message], timeout: float | None = None) -> None:
        self.publishing.publish(messages, self.options.publish_timeout if timeout is None else timeout)

    def consumer(self, queues: Sequence[Queue], *, name: str, lease: float = 5.0, window: int = 0) -> Consumer:
        return RedisConsumer(self, queues, name, lease)

    def stores_results_of(self, backend: Backend) -> bool:
        """True for a Redis backend in the same database, as the same user; results of settlements then go there.

        Compressed results are stored by the backend itself: no script can tell whether they are a SUCCESS.
        """
        from umbel.backends.redis import RedisBackend

        if not isinstance(backend, RedisBackend) or backend.options.compression:
            return False
        if backend.server.identity != self.server.identity:
            return False
        self.results_prefix = prefix_of(backend.options.key_prefix)
        return True

    # -- administration --

    def declare(self, queue: Queue, timeout: float | None = None) -> None:
        self.publishing.declare(queue, ANSWER_TIMEOUT if timeout is None else timeout)

    def queues(self) -> list[str]:
        return self._administration.queues()

    def size(self, queue: str) -> QueueSize:
        return self._administration.size(queue)

    def is_consumed(self, queue: str) -> bool:
        """Whether a living consumer, of any process, consumes the queue."""
        return self._administration.is_consumed(queue)

    def peek(self, queue: str, limit: int = 10) -> list[Message]:
        return self._administration.peek(queue, limit)

    def locate(self, task_id: str) -> Place | None:
        from umbel.brokers.redis.locating import Search

        return Search(self.links, self.keys, task_id).run(self.queues())

    def purge(self, queue: str) -> int:
        return self._administration.purge(queue)

    def delete(self, queue: str) -> None:
        self._administration.delete(queue)
        self.publishing.forget(queue)

    def dead_letters(self, queue: str, limit: int = 100) -> list[DeadLetter]:
        return self._administration.dead_letters(queue, limit)

    def replay(self, queue: str, ids: Collection[str] | None = None) -> int:
        return self._administration.replay(queue, ids)

    def purge_dead(self, queue: str, ids: Collection[str] | None = None) -> int:
        return self._administration.purge_dead(queue, ids)

    def parked(self, queue: str) -> dict[str, int]:
        return self._administration.parked(queue)

    def unpark(self, queue: str, tasks: Collection[str]) -> int:
        return self._administration.unpark(queue, tasks)

    # -- fan-out and locks --

    def broadcast(self, exchange: str, note: Note) -> None:
        channel = self.keys.fanout(self.server.db, exchange, note.routing_key)
        self.links.call("PUBLISH", channel, encode_note(exchange, note))

    def listen(self, exchange: str, pattern: str = "#") -> Listener:
        return RedisListener(self.links, self.keys, exchange, pattern)

    def lock(self, name: str, ttl: float) -> Lock:
        return RedisLock(self.links, self.keys.lock(name), ttl)

    def revocations(self) -> Revocations:
        return RedisRevocations(self.links, self.keys.revocations)

    # -- life --

    def close(self) -> None:
        try:
            self.publishing.close()
        except OperationalError as error:
            log.debug("publishers not removed, they expire: %s", error)
        self.links.close()

    def after_fork(self) -> None:
        self.publishing.after_fork()
        self.links.forget()
