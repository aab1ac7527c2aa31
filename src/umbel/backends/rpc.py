"""``rpc://``: results come back as messages to a reply queue of the process that sent the tasks, in Celery's format.

One durable queue and one listening connection for each process, whatever the number of threads; results
are told apart by their correlation id and kept in memory for ``expires`` seconds, ``cache_max`` tasks at most (a
transport option, 50,000), or until they are forgotten. Only the sending process can read them. A worker answers with
one message for each state; where the queue is gone the answer is dropped.

``rpc://`` alone is on the application's broker; ``rpc://host/vhost`` is on another one.
"""

from __future__ import annotations

import logging
import queue
import threading
import time
from collections import deque
from collections.abc import Callable, Collection, Iterable, Sequence

import msgspec
from msgspec import Struct

from umbel.backends.base import Backend, Features, Meta, Options, Result, expiry_of
from umbel.backends.caller import Caller
from umbel.backends.document import decode_document, encode_document
from umbel.backends.rpc_answers import Answers
from umbel.backends.rpc_listener import Listening, broker_options, broker_url
from umbel.brokers.amqp.addresses import addresses
from umbel.brokers.amqp.frames import encode_properties
from umbel.brokers.amqp.posts import Post
from umbel.brokers.amqp.publisher import Publisher, answered
from umbel.codecs import serializer
from umbel.errors import BackendError, OperationalError
from umbel.message import new_id
from umbel.states import READY_STATES

logger = logging.getLogger(__name__)

_CACHE_MAX = 50_000
_PAUSE = 0.2


class _Record:
    """What has come for one task. ``inbox`` is filled by the I/O thread and decoded by whoever wants to know."""

    __slots__ = ("came_at", "decoding", "inbox", "meta", "subscribers", "version", "waiters")

    def __init__(self) -> None:
        self.came_at = time.monotonic()
        self.inbox: deque[bytes] = deque()
        self.decoding = threading.Lock()
        self.meta: Meta | None = None
        self.version = 0
        self.waiters: list[queue.SimpleQueue[str | None]] = []
        self.subscribers: list[Callable[[Meta], object]] = []


class RPCBackend(Backend):
    """See the module's docstring."""

    features = Features(shared=False, groups=False)

    def __init__(self, url: str, options: Options | None = None) -> None:
        super().__init__(url, options)
        self._broker_options = broker_options(self.options)
        self._servers = addresses(broker_url(url, self.options), self._broker_options)
        self._most = int(self.options.transport.get("cache_max", _CACHE_MAX))
        self._begin()

    def _begin(self) -> None:
        self._address = new_id()
        self._guard = threading.Lock()
        self._records: dict[str, _Record] = {}
        self._publisher = Publisher(self._servers, self.options.connect_timeout, _no_queue)
        self._listening = Listening(
            self._servers, self.options, self._address, on_result=self._on_result, on_lost=self._on_lost
        )
        self._caller = Caller("umbel-rpc-results")
        self._answers = Answers(self._publisher, self.options.timeout, self.options.persistent, self._caller)

    # -- sending --

    @property
    def reply_to(self) -> str:
        return self._address

    def on_publish(self, task_ids: Sequence[str], timeout: float | None = None) -> None:
        self._listening.ensure(timeout)

    # -- storing --

    def encode(self, meta: Meta, *, reply_to: str = "", correlation_id: str = "") -> Result:
        payload = encode_document(meta, self.options)
        return Result(meta.task_id, meta.status, payload, expiry_of(meta, self.options), reply_to, correlation_id)

    def store(self, results: Sequence[Result]) -> None:
        posts = [self._post(result) for result in results if result.reply_to]
        if posts:
            self._answers.send(posts)

    def _post(self, result: Result) -> Post:
        kind = serializer(self.options.serializer)
        properties = encode_properties(
            {},
            content_type=kind.content_type,
            content_encoding=kind.content_encoding,
            delivery_mode=2 if self.options.persistent else 1,
            correlation_id=result.correlation_id or result.task_id,
        )
        what = f"the result of {result.task_id}"
        return Post("", result.reply_to, properties, result.payload, what, mandatory=False)

    # -- reading --

    def get(self, task_ids: Sequence[str]) -> dict[str, Meta]:
        if task_ids:
            self._listening.ensure()
        with self._guard:
            self._trim()
            found = {task_id: self._records[task_id] for task_id in task_ids if task_id in self._records}
        metas = {task_id: self._absorb(record) for task_id, record in found.items()}
        return {task_id: meta for task_id, meta in metas.items() if meta is not None}

    def wait(self, task_ids: Collection[str], timeout: float | None, on_meta: Callable[[Meta], object]) -> bool:
        deadline = None if timeout is None else time.monotonic() + timeout
        news: queue.SimpleQueue[str | None] = queue.SimpleQueue()
        pending = dict.fromkeys(task_ids, 0)
        with self._guard:
            records = {task_id: self._record(task_id) for task_id in pending}
            for record in records.values():
                record.waiters.append(news)
        try:
            for task_id, record in records.items():
                self._tell(task_id, record, pending, on_meta)
            if pending:
                self._listening.ensure()
            while pending:
                rest = None if deadline is None else deadline - time.monotonic()
                try:
                    task_id = news.get(timeout=None if rest is None else max(0.0, rest))
                except queue.Empty:
                    return False
                if task_id is None:
                    self._listen_again(deadline)
                elif task_id in pending:
                    self._tell(task_id, records[task_id], pending, on_meta)
            return True
        finally:
            with self._guard:
                for task_id, record in records.items():
                    record.waiters.remove(news)
                    self._drop_if_unused(task_id, record)

    def _tell(self, task_id: str, record: _Record, pending: dict[str, int], on_meta: Callable[[Meta], object]) -> None:
        """Report what is new of a task since the version in ``pending``."""
        meta = self._absorb(record)
        if meta is None or record.version == pending[task_id]:
            return
        pending[task_id] = record.version
        if meta.ready:
            del pending[task_id]
        on_meta(meta)

    def _listen_again(self, deadline: float | None) -> None:
        """After a lost connection. Raises OperationalError when it cannot be had again until ``deadline``."""
        while True:
            try:
                self._listening.ensure()
                return
            except OperationalError:
                if deadline is not None and time.monotonic() + _PAUSE >= deadline:
                    raise
                time.sleep(_PAUSE)

    def subscribe(self, task_id: str, on_meta: Callable[[Meta], object]) -> Callable[[], None]:
        with self._guard:
            record = self._record(task_id)
            record.subscribers.append(on_meta)
        self._caller.call(lambda: self._serve(record))

        def end() -> None:
            with self._guard:
                if on_meta in record.subscribers:
                    record.subscribers.remove(on_meta)
                self._drop_if_unused(task_id, record)

        return end

    def _serve(self, record: _Record) -> None:
        """Call the subscribers of a task that is ready, once."""
        meta = self._absorb(record)
        if meta is None or not meta.ready:
            return
        with self._guard:
            subscribers, record.subscribers = record.subscribers, []
        for subscriber in subscribers:
            try:
                subscriber(meta)
            except Exception:
                logger.exception("a subscriber to the result of %s failed", meta.task_id)

    def _absorb(self, record: _Record) -> Meta | None:
        """Decode what has come; the present meta. A SUCCESS stays. Raises DecodeError, ContentDisallowed."""
        with record.decoding:
            while record.inbox:
                meta = decode_document(record.inbox[0], self.options)
                record.inbox.popleft()
                if record.meta is None or record.meta.status != "SUCCESS":
                    record.meta = meta
                    record.version += 1
            return record.meta

    def forget(self, task_ids: Sequence[str]) -> None:
        with self._guard:
            for task_id in task_ids:
                self._records.pop(task_id, None)

    # -- the cache; ``_guard`` is held --

    def _record(self, task_id: str) -> _Record:
        record = self._records.get(task_id)
        if record is None:
            record = self._records[task_id] = _Record()
        return record

    def _drop_if_unused(self, task_id: str, record: _Record) -> None:
        if not (record.waiters or record.subscribers or record.inbox or record.meta):
            self._records.pop(task_id, None)

    def _trim(self) -> None:
        """Drop the oldest: what is expired, and what is too much. Nothing that somebody waits for."""
        oldest = time.monotonic() - self.options.expires if self.options.expires else 0.0
        surplus = len(self._records) - self._most
        for task_id in _first(self._records, 32):
            record = self._records[task_id]
            if record.came_at >= oldest and surplus <= 0:
                return
            surplus -= 1
            if not record.waiters and not record.subscribers:
                del self._records[task_id]

    # -- I/O thread --

    def _on_result(self, task_id: str, payload: bytes) -> None:
        if _is_final(payload):
            answered(task_id)
        with self._guard:
            self._trim()
            record = self._record(task_id)
            record.inbox.append(payload)
            for waiter in record.waiters:
                waiter.put(task_id)
            subscribed = bool(record.subscribers)
        if subscribed:
            self._caller.call(lambda: self._serve(record))

    def _on_lost(self) -> None:
        with self._guard:
            waiters = {id(waiter): waiter for record in self._records.values() for waiter in record.waiters}
            subscribed = any(record.subscribers for record in self._records.values())
        for waiter in waiters.values():
            waiter.put(None)
        if subscribed:
            self._caller.call(self._relisten)

    def _relisten(self) -> None:
        """For those who wait by subscription only."""
        try:
            self._listening.ensure()
        except OperationalError as error:
            logger.warning("results cannot be received: %s", error)
            time.sleep(_PAUSE)
            self._caller.call(self._relisten)

    # -- life --

    def close(self) -> None:
        self._answers.close()
        self._caller.close()
        self._listening.close()
        self._publisher.close()

    def after_fork(self) -> None:
        self._begin()


class _Status(Struct):
    """What is read of a result before anybody asks for it."""

    status: str


_decode_status = msgspec.json.Decoder(_Status).decode


def _is_final(payload: bytes) -> bool:
    """Whether it is JSON, and says that the task has ended."""
    try:
        return payload[:1] == b"{" and _decode_status(payload).status in READY_STATES
    except msgspec.MsgspecError:
        return False


def _first(names: Iterable[str], count: int) -> list[str]:
    return [name for name, _ in zip(names, range(count), strict=False)]


def _no_queue(name: str) -> None:
    raise BackendError(f"reply queues are made by those who wait for them, {name!r} is not")
