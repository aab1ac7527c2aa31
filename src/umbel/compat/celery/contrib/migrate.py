"""``celery.contrib.migrate``: moving messages between queues and brokers, by ``umbel.migrating``.

Where Celery's functions take connections and producers, these take an application, a broker or a URL. Predicates and
callbacks get ``(body, message)``: what the task is called with, and a ``QueuedMessage``.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from functools import partial
from typing import Any, NamedTuple, cast

import msgspec

from umbel import brokers
from umbel.brokers.base import Broker
from umbel.codecs import accept_set, loads
from umbel.compat.celery.utils.nodenames import worker_direct
from umbel.current import get_current_app
from umbel.errors import UmbelError
from umbel.message import Message, decode_headers
from umbel.migrating import Moved, StopMoving, addressed, move_messages
from umbel.queues import Queue

__all__ = [
    "State",
    "StopFiltering",
    "migrate_task",
    "migrate_tasks",
    "move",
    "move_by_idmap",
    "move_by_taskmap",
    "move_direct",
    "move_direct_by_id",
    "move_task_by_id",
    "republish",
    "start_filter",
    "task_id_eq",
    "task_id_in",
]

StopFiltering = StopMoving
"""Raised by a filter or callback: look at no more messages."""


class State:
    """How far it is. ``count``: messages looked at; ``filtered``: those that were moved; ``total_apx``: how many there
    were about at the beginning."""

    count = 0
    filtered = 0
    total_apx = 0

    @property
    def strtotal(self) -> str:
        """``total_apx`` as text, ``?`` where it is not known."""
        return str(self.total_apx) if self.total_apx else "?"

    def __repr__(self) -> str:
        return f"^{self.filtered}" if self.filtered else f"{self.count}/{self.strtotal}"


class QueuedMessage(NamedTuple):
    """A message in a queue, as predicates and callbacks see it."""

    message: Message
    accept: frozenset[str]

    @property
    def headers(self) -> dict[str, Any]:
        return decode_headers(self.message.headers)

    @property
    def properties(self) -> dict[str, Any]:
        message = self.message
        return {
            "correlation_id": message.correlation_id,
            "reply_to": message.reply_to,
            "priority": message.priority,
            "delivery_mode": message.delivery_mode,
        }

    @property
    def delivery_info(self) -> dict[str, Any]:
        message = self.message
        return {
            "exchange": message.exchange,
            "routing_key": message.routing_key or message.queue,
            "priority": message.priority,
            "redelivered": message.redelivered,
        }

    @property
    def body(self) -> bytes:
        return self.message.body

    @property
    def content_type(self) -> str:
        return self.message.content_type

    @property
    def content_encoding(self) -> str:
        return self.message.content_encoding

    @property
    def task_id(self) -> str:
        return self.message.id

    def decode(self) -> Any:
        """The body as an object. Raises ContentDisallowed, DecodeError."""
        message = self.message
        compression = self.headers.get("compression")
        return loads(message.body, message.content_type, message.content_encoding, self.accept, compression)

    payload = property(decode)


Predicate = Callable[[Any, QueuedMessage], Any]


def republish(
    producer: Any,
    message: QueuedMessage,
    exchange: str | None = None,
    routing_key: str | None = None,
    remove_props: Sequence[str] | None = None,
) -> None:
    """Send a message as it is to another exchange or queue, to the broker ``producer``. ``remove_props``: of
    ``correlation_id``, ``reply_to``, ``priority``, those to leave out."""
    _broker(producer).publish([_to(message.message, exchange, routing_key, remove_props or ())])


def _to(message: Message, exchange: str | None, routing_key: str | None, remove: Sequence[str] = ()) -> Message:
    queue = routing_key or message.queue
    bare = {name: value for name, value in _BARE.items() if name in remove}
    if not exchange or exchange == message.queue:
        return msgspec.structs.replace(addressed(message, queue), **bare)
    return msgspec.structs.replace(message, queue="", exchange=exchange, routing_key=queue, redelivered=False, **bare)


_BARE: dict[str, Any] = {"correlation_id": "", "reply_to": "", "priority": 0}


def migrate_task(producer: Any, body_: Any, message: QueuedMessage, queues: Mapping[str, str] | None = None) -> None:
    """Send one message to the broker ``producer``, to the queue that ``queues`` names instead of its own."""
    renamed = queues or {}
    republish(producer, message, routing_key=renamed.get(message.message.queue, message.message.queue))


def migrate_tasks(
    source: Any,
    dest: Any,
    migrate: Callable[..., Any] = migrate_task,
    app: Any = None,
    queues: Any = None,
    **kwargs: Any,
) -> State:
    """Send all messages of one broker to another. They stay in the first as well, unless ``ack_messages=True``.

    ``queues``: names, with commas between them or in a list, and new names as ``old:new`` or in a dict. Options are
    those of ``start_filter``.
    """
    names = _queue_names(queues)
    with_names = partial(migrate, _broker(dest), queues=names)
    return start_filter(app, source, with_names, queues=list(names) or None, **kwargs)


def move(
    predicate: Predicate,
    connection: Any = None,
    exchange: Any = None,
    routing_key: str | None = None,
    source: Any = None,
    app: Any = None,
    callback: Callable[..., Any] | None = None,
    limit: int | None = None,
    transform: Callable[[Any], Any] | None = None,
    **kwargs: Any,
) -> State:
    """Move the messages for which ``predicate(body, message)`` is true.

    It returns where to: a queue, ``(exchange, routing_key)``, or another true value for ``exchange`` and
    ``routing_key``; ``transform`` makes such an answer of what it returns. ``source``: the queues to look into, by
    default the application's. ``limit``: messages to look at. ``callback(state, body, message)`` is called after each
    that was moved. Options are those of ``start_filter``. A message leaves its queue in the step that sends it.
    """
    return _move(
        lambda message: predicate(message.decode(), message), connection, exchange, routing_key, source, app, callback,
        limit, transform, **kwargs,
    )  # fmt: skip


def _move(
    where: Callable[[QueuedMessage], Any],
    connection: Any = None,
    exchange: Any = None,
    routing_key: str | None = None,
    source: Any = None,
    app: Any = None,
    callback: Callable[..., Any] | None = None,
    limit: int | None = None,
    transform: Callable[[Any], Any] | None = None,
    **kwargs: Any,
) -> State:
    def destination(message: QueuedMessage) -> Sequence[Message] | None:
        answer = where(message)
        if not answer:
            return None
        answer = transform(answer) if transform is not None else answer
        if isinstance(answer, Queue):
            return [_to(message.message, None, answer.name)]
        if isinstance(answer, (tuple, list)):
            to, key = cast("Sequence[Any]", answer)
            return [_to(message.message, _name(to), key)]
        return [_to(message.message, _name(exchange), routing_key)]

    kwargs.setdefault("queues", source)
    return _filter(app, connection, destination, limit=limit, callback=callback, **kwargs)


def start_filter(
    app: Any,
    conn: Any,
    filter: Callable[..., Any],
    limit: int | None = None,
    timeout: float = 1.0,
    ack_messages: bool = False,
    tasks: Any = None,
    queues: Any = None,
    callback: Callable[..., Any] | None = None,
    forever: bool = False,
    on_declare_queue: Callable[[Queue], Any] | None = None,
    consume_from: Iterable[Any] | None = None,
    state: State | None = None,
    accept: Collection[str] | None = None,
    **kwargs: Any,
) -> State:
    """Call ``filter(body, message)`` for each waiting message.

    ``ack_messages``: messages are removed then; otherwise all stay. ``tasks``: only those of these tasks. ``queues``,
    ``consume_from``: to look into, by default the application's. ``limit``: messages to look at. It ends after
    ``timeout`` seconds without a message, unless ``forever``, and when StopFiltering is raised.
    """

    found = state or State()

    def apply(message: QueuedMessage) -> Sequence[Message] | None:
        body = message.decode()
        filter(body, message)
        if callback is not None:
            callback(found, body, message)
        return () if ack_messages else None

    return _filter(
        app, conn, apply, limit=limit, timeout=timeout, tasks=tasks, queues=consume_from or queues, forever=forever,
        on_declare_queue=on_declare_queue, state=found, accept=accept,
    )  # fmt: skip


def _filter(
    app: Any,
    conn: Any,
    choose: Callable[[QueuedMessage], Sequence[Message] | None],
    *,
    limit: int | None = None,
    timeout: float = 1.0,
    tasks: Any = None,
    queues: Any = None,
    callback: Callable[..., Any] | None = None,
    forever: bool = False,
    on_declare_queue: Callable[[Queue], Any] | None = None,
    state: State | None = None,
    accept: Collection[str] | None = None,
) -> State:
    app = app or get_current_app()
    broker = _broker(conn if conn is not None else app)
    found = state or State()
    wanted = set(_listed(tasks))
    sources = [_queue(each) for each in _listed(queues)] or app.consume_queues()
    for queue in sources:
        broker.declare(queue)
        if on_declare_queue is not None:
            on_declare_queue(queue)
    found.total_apx += sum(max(broker.size(queue.name).ready, 0) for queue in sources)
    accepted = accept_set(accept if accept is not None else app.conf.accept_content)

    def decide(message: Message) -> Sequence[Message] | None:
        if wanted and message.task not in wanted:
            return None
        return choose(QueuedMessage(message, accepted))

    def moved(counts: Moved, message: Message) -> None:
        found.filtered += 1
        if callback is not None:
            view = QueuedMessage(message, accepted)
            callback(found, view.decode(), view)

    counts = move_messages(broker, sources, decide, limit=limit, timeout=timeout, forever=forever, on_moved=moved)
    found.count += counts.looked
    return found


def task_id_eq(task_id: str, body: Any, message: QueuedMessage) -> bool:
    """Whether this is the message of that task."""
    return message.task_id == task_id


def task_id_in(ids: Collection[str], body: Any, message: QueuedMessage) -> bool:
    """Whether this is the message of one of these tasks."""
    return message.task_id in ids


def move_task_by_id(task_id: str, dest: Any, **kwargs: Any) -> State:
    """Move the message of one task to a queue, given by itself or its name."""
    return move_by_idmap({task_id: dest}, **kwargs)


def move_by_idmap(map: Mapping[str, Any], **kwargs: Any) -> State:
    """Move messages to the queues that ``map`` names by the ids of their tasks; ends when all have been found."""
    left = set(map)

    def where(message: QueuedMessage) -> Queue | None:
        if not left:
            raise StopFiltering
        left.discard(message.task_id)
        to = map.get(message.task_id)
        return _queue(to) if to is not None else None

    return _move(where, **kwargs)


def move_by_taskmap(map: Mapping[str, Any], **kwargs: Any) -> State:
    """Move messages to the queues that ``map`` gives by the names of their tasks."""

    def where(message: QueuedMessage) -> Queue | None:
        to = map.get(message.message.task)
        return _queue(to) if to is not None else None

    return _move(where, **kwargs)


def move_direct(
    predicate: Predicate,
    connection: Any = None,
    exchange: Any = None,
    routing_key: str | None = None,
    source: Any = None,
    app: Any = None,
    callback: Callable[..., Any] | None = None,
    limit: int | None = None,
    *,
    transform: Callable[[Any], Any] = worker_direct,
    **kwargs: Any,
) -> State:
    """As ``move``, where ``predicate`` returns the node name of the worker whose own queue is meant."""
    return move(
        predicate, connection, exchange, routing_key, source, app, callback, limit, transform=transform, **kwargs
    )


def move_direct_by_id(task_id: str, dest: str, **kwargs: Any) -> State:
    """Move the message of one task to the own queue of the worker of that node name."""
    return move_by_idmap({task_id: worker_direct(dest)}, **kwargs)


def _broker(given: Any) -> Broker:
    if isinstance(given, Broker):
        return given
    if isinstance(given, str):
        return brokers.open_broker(given)
    broker = getattr(given, "broker", None)
    if isinstance(broker, Broker):
        return broker
    as_uri = getattr(given, "as_uri", None)
    if as_uri is None:
        raise UmbelError(f"a broker is an application, a driver, a URL or a connection, not {given!r}")
    return brokers.open_broker(as_uri(include_password=True))


def _queue(given: Any) -> Queue:
    return given if isinstance(given, Queue) else Queue(name=_name(given) or "")


def _name(given: Any) -> str | None:
    return given if given is None or isinstance(given, str) else given.name


def _listed(given: Any) -> list[Any]:
    if given is None:
        return []
    if isinstance(given, str):
        return [each.strip() for each in given.split(",") if each.strip()]
    return list(given)


def _queue_names(given: Any) -> dict[str, str]:
    """New names of queues by their old ones."""
    if isinstance(given, Mapping):
        return dict(cast("Mapping[str, str]", given))
    pairs = (str(_name(each)).partition(":") for each in _listed(given))
    return {old: new or old for old, _, new in pairs}
