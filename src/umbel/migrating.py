"""Moving messages from one queue to another, or from one broker to another.

    from umbel.migrating import migrate, move_tasks

    move_tasks(app, "slow", tasks={"proj.report"})
    migrate("redis://old", "amqp://new", queues=["celery"])

Messages go as they are: the same id, headers and body, byte for byte. Nothing is lost: a message leaves its queue in
the step that puts it into the other one or, where these are two brokers, after the other has it for sure, so that it is
there twice if that process dies in between. What is looked at and not moved is given back in its order.

Not moved: messages that workers hold, delayed ones (they are counted), and dead letters.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Collection, Generator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, cast

import msgspec
from msgspec import Struct

from umbel import brokers
from umbel.brokers.base import Broker, Consumer, Delivery, Settlement
from umbel.errors import ConfigurationError, OperationalError
from umbel.message import Message, new_id, origin
from umbel.queues import Queue

if TYPE_CHECKING:
    from umbel.app import Umbel

__all__ = ["Moved", "StopMoving", "addressed", "migrate", "move_messages", "move_tasks"]

logger = logging.getLogger(__name__)

LEASE = 15.0
BATCH = 100

Choose = Callable[[Message], "Sequence[Message] | None"]
"""What to send instead of a message, an empty sequence for nothing; None leaves it where it is."""


class StopMoving(Exception):
    """Raised by a function that chooses, to look no further; the message it was asked about stays."""


class Moved(Struct):
    """How far it is. ``delayed``: messages that were not looked at because their time has not come."""

    looked: int = 0
    moved: int = 0
    delayed: int = 0


def move_tasks(
    app: Umbel,
    to: str,
    *,
    ids: Collection[str] | None = None,
    tasks: Collection[str] | None = None,
    where: Callable[[Message], bool] | None = None,
    queues: Collection[str] | None = None,
    limit: int | None = None,
    timeout: float = 1.0,
) -> Moved:
    """Move waiting tasks of ``app`` to the queue ``to``: those with these ids, of these tasks, and for which ``where``
    is true; all, where nothing is asked.

    ``queues``: to look into, by default the configured ones without ``to``. ``limit``: move no more than that.
    ``timeout``: as of ``move_messages``. Raises what ``app.broker`` raises.
    """
    sources = [each for each in app.consume_queues(list(queues) if queues else None) if queues or each.name != to]

    def choose(message: Message) -> list[Message] | None:
        wanted = (ids is None or message.id in ids) and (tasks is None or message.task in tasks)
        return [addressed(message, to)] if wanted and (where is None or where(message)) else None

    return move_messages(app.broker, sources, _at_most(limit, choose), timeout=timeout)


def migrate(
    source: Umbel | Broker | str,
    to: Umbel | Broker | str,
    *,
    queues: Collection[str] | Mapping[str, str] | None = None,
    tasks: Collection[str] | None = None,
    copy: bool = False,
    limit: int | None = None,
    timeout: float = 1.0,
    forever: bool = False,
    moved: Moved | None = None,
    on_moved: Callable[[Moved, Message], object] | None = None,
) -> Moved:
    """Move all waiting tasks from one broker to another, into queues of the same names.

    Brokers are applications, drivers or URLs. ``queues``: names, or new names by the old; by default all that the
    source can list. ``tasks``: only messages of these. ``copy``: leave the messages in the source as well. ``limit``:
    no more than that. The rest is as of ``move_messages``. Raises what the brokers raise; what was moved before stays
    moved. Raises ConfigurationError where both are one broker.
    """
    with _opened(source) as old, _opened(to) as new:
        if old is new or old.url == new.url:
            raise ConfigurationError("source and destination are one broker; move_tasks moves between its queues")
        names: dict[str, str]
        if isinstance(queues, Mapping):
            names = dict(cast("Mapping[str, str]", queues))
        else:
            names = {name: name for name in (old.queues() if queues is None else queues)}

        def choose(message: Message) -> list[Message] | None:
            if tasks is not None and message.task not in tasks:
                return None
            return [addressed(message, names.get(message.queue, message.queue))]

        sources = [Queue(name=name) for name in names]
        return move_messages(
            old,
            sources,
            _at_most(limit, choose),
            to=new,
            copy=copy,
            timeout=timeout,
            forever=forever,
            moved=moved,
            on_moved=on_moved,
        )


def move_messages(
    source: Broker,
    queues: Sequence[Queue],
    choose: Choose,
    *,
    to: Broker | None = None,
    copy: bool = False,
    limit: int | None = None,
    timeout: float = 1.0,
    forever: bool = False,
    moved: Moved | None = None,
    on_moved: Callable[[Moved, Message], object] | None = None,
) -> Moved:
    """Look at each waiting message of ``queues`` once and send what ``choose`` returns instead of it.

    ``to``: another broker to send to. ``copy``: leave what is sent in its queue as well. ``limit``: look at no more
    than that. ``timeout``: end after so many seconds without another message, unless ``forever``. ``moved`` is counted
    up and returned; ``on_moved(moved, message)`` is called for each message after it was sent. Messages that cannot be
    read stay. What is sent to one of ``queues`` is not looked at again.
    """
    counts = moved if moved is not None else Moved()
    counts.delayed = sum(max(source.size(queue.name).delayed, 0) for queue in queues)
    if counts.delayed:
        logger.warning("%d delayed messages are not moved: their time has not come", counts.delayed)
    target = to if to is not None else source
    pile = _Pile(counts, choose, {queue.name for queue in queues} if target is source or copy else set())
    with _holding(source, queues) as consumer:
        while True:
            space = BATCH if limit is None else min(BATCH, limit - counts.looked)
            batch = consumer.receive(space, timeout) if space > 0 else []
            if not batch and (space <= 0 or not forever):
                return counts
            chosen, stopped = pile.choose(batch)
            if target is source and not copy:
                stale = consumer.settle([Settlement(of, publish=tuple(messages)) for of, messages in chosen]).stale
                lost = {id(settlement.delivery) for settlement in stale}
                chosen = [each for each in chosen if id(each[0]) not in lost]
            else:
                target.publish([message for _, messages in chosen for message in messages])
                if not copy:
                    consumer.settle([Settlement(delivery) for delivery, _ in chosen])
            for delivery, messages in chosen:
                pile.note(messages)
                if on_moved is not None:
                    on_moved(counts, delivery.message)
            if stopped:
                return counts


def _at_most(limit: int | None, choose: Choose) -> Choose:
    """``choose``, until it has chosen so many."""
    left = limit

    def limited(message: Message) -> Sequence[Message] | None:
        nonlocal left
        if left is None:
            return choose(message)
        if left <= 0:
            raise StopMoving
        chosen = choose(message)
        left -= chosen is not None
        return chosen

    return limited


def addressed(message: Message, queue: str) -> Message:
    """``message`` as it is, to the queue of that name."""
    return msgspec.structs.replace(message, queue=queue, exchange="", routing_key="", redelivered=False)


class _Pile:
    """What is looked at, and what was sent to the queues that are looked at (``own``), or would be met again."""

    def __init__(self, counts: Moved, choose: Choose, own: set[str]) -> None:
        self._counts = counts
        self._choose = choose
        self._own = own
        self._sent: set[str] = set()

    def choose(self, batch: list[Delivery]) -> tuple[list[tuple[Delivery, Sequence[Message]]], bool]:
        """What to send for which deliveries, and whether that was enough; the rest stays held until the end."""
        chosen: list[tuple[Delivery, Sequence[Message]]] = []
        for delivery in batch:
            if delivery.fault or delivery.message.id in self._sent:
                continue
            self._counts.looked += 1
            try:
                messages = self._choose(delivery.message)
            except StopMoving:
                return chosen, True
            if messages is not None:
                chosen.append((delivery, messages))
        return chosen, False

    def note(self, messages: Sequence[Message]) -> None:
        """Count what was sent."""
        self._counts.moved += 1
        self._sent.update(message.id for message in messages if message.queue in self._own)


@contextmanager
def _holding(source: Broker, queues: Sequence[Queue]) -> Generator[Consumer]:
    """A consumer whose lease is kept; what it still holds at the end goes back."""
    over = threading.Event()
    name = f"migrate-{new_id()[:8]}-{origin()}"
    with source.consumer(queues, name=name, lease=LEASE) as consumer:

        def keep() -> None:
            while not over.wait(LEASE / 5):
                try:
                    consumer.renew()
                except OperationalError as error:
                    logger.warning("the lease of what is being moved was not renewed: %s", error)

        keeper = threading.Thread(target=keep, name="umbel-migrate-lease", daemon=True)
        keeper.start()
        try:
            yield consumer
        finally:
            over.set()
            keeper.join()


@contextmanager
def _opened(given: Any) -> Generator[Broker]:
    """The broker that was given, as an application, a driver or a URL; one of a URL is closed at the end."""
    if isinstance(given, Broker):
        yield given
    elif isinstance(given, str):
        broker = brokers.open_broker(given)
        try:
            yield broker
        finally:
            broker.close()
    elif isinstance(getattr(given, "broker", None), Broker):
        yield given.broker
    else:
        raise ConfigurationError(f"a broker is an application, a driver or a URL, not {given!r}")
