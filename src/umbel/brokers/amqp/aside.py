"""What is set aside and what is looked at: dead letters, parked messages, peeking, purging delayed messages.

Dead letters of a queue ``q`` are in the durable classic queue ``q.dead``, parked messages in ``q.parked``. AMQP has no
way to look into a queue: messages are taken (many gets at a time) and put back, which costs a transfer of all that is
looked at, hides it from others meanwhile, and sets its ``redelivered`` flag. A quorum queue puts what comes back at its
end and counts it as a failed delivery; so ``peek`` takes all of it and publishes it again, and refuses to do that with
more than ``MOST_MOVED`` messages.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from typing import Any

from umbel.brokers.amqp.channels import NOT_FOUND, Channel, Refused
from umbel.brokers.amqp.delays import FRACTION_QUEUES, LEVEL_QUEUES, LEVELS
from umbel.brokers.amqp.frames import Content
from umbel.brokers.amqp.posts import BURIED_AT, DELIVERIES, REASON, Arrival, Post, arrival, post_to
from umbel.brokers.amqp.topology import ready_count
from umbel.brokers.base import DeadLetter, Delivery
from umbel.errors import BrokerError
from umbel.message import Message, new_id, now

_ALL = 1 << 30
_LONGEST_REASON = 4_000
MOST_MOVED = 10_000


def dead_queue(queue: str) -> str:
    return f"{queue}.dead"


def parked_queue(queue: str) -> str:
    return f"{queue}.parked"


def burial(delivery: Delivery, deliveries: int, reason: str, expires: float) -> Post:
    """The post that makes a delivery a dead letter; ``expires``: seconds for which it is kept, 0 for ever."""
    name = dead_queue(delivery.queue)
    extra = {DELIVERIES: deliveries, REASON: reason[:_LONGEST_REASON], BURIED_AT: now()}
    expiration = str(int(min(expires * 1000, 2**32 - 1))) if expires else ""
    return post_to(delivery.message, "", name, queue=name, extra=extra, expiration=expiration, message_id=new_id())


def parking(delivery: Delivery, deliveries: int) -> Post:
    """The post that parks a delivery."""
    name = parked_queue(delivery.queue)
    extra = {DELIVERIES: deliveries} if deliveries else None
    return post_to(delivery.message, "", name, queue=name, extra=extra, expiration="")


def return_post(message: Message, queue: str) -> Post:
    """The post that brings a message that was set aside back into its queue, with a delivery count of 0."""
    return post_to(message, "", queue, queue=queue)


def requeued(message: Message, queue: str, deliveries: int, route: tuple[str, str] | None = None) -> Post:
    """The copy of a message that takes its place in ``queue``; ``route`` leads there with a delay."""
    exchange, key = route or ("", queue)
    extra = {DELIVERIES: deliveries} if deliveries else None
    return post_to(message, exchange, key, queue=queue, extra=extra, expiration="" if exchange else None)


class Aside:
    """Looks into queues. ``channel`` opens a channel for a piece of work, ``publish`` returns when posts are safe."""

    def __init__(
        self,
        channel: Callable[[], Any],
        publish: Callable[[Sequence[Post]], None],
        is_quorum: Callable[[str], bool],
    ) -> None:
        self._channel = channel
        self._publish = publish
        self._is_quorum = is_quorum

    def peek(self, queue: str, limit: int) -> list[Message]:
        """Raises BrokerError for a quorum queue that is too long to be moved."""
        if self._is_quorum(queue):
            return self._peek_by_moving(queue, limit)
        return [found.message for found in self._look(queue, queue, limit)]

    def _peek_by_moving(self, queue: str, limit: int) -> list[Message]:
        ready = self._ready(queue) or 0
        if ready > MOST_MOVED:
            raise BrokerError(
                f"the quorum queue {queue!r} holds {ready} messages; RabbitMQ cannot show some of them without changing"
                f" their order, and more than {MOST_MOVED} are not moved for it"
            )
        with self._channel() as channel:
            contents = list(channel.take(queue, ready))
            found = [arrival(content, queue) for content in contents]
            self._publish([requeued(each.message, queue, each.deliveries) for each in found])
            channel.acknowledge(contents)
        return [each.message for each in found[:limit]]

    def dead_letters(self, queue: str, limit: int) -> list[DeadLetter]:
        return [
            DeadLetter(found.id, queue, found.message, found.reason, found.at, found.counted)
            for found in self._look(dead_queue(queue), queue, limit)
        ]

    def parked(self, queue: str) -> dict[str, int]:
        names: dict[str, int] = {}
        for found in self._look(parked_queue(queue), queue, _ALL):
            names[found.message.task] = names.get(found.message.task, 0) + 1
        return names

    def replay(self, queue: str, ids: Collection[str] | None) -> int:
        return self._remove(dead_queue(queue), queue, lambda found: ids is None or found.id in ids, send_back=True)

    def purge_dead(self, queue: str, ids: Collection[str] | None) -> int:
        return self._remove(dead_queue(queue), queue, lambda found: ids is None or found.id in ids, send_back=False)

    def unpark(self, queue: str, tasks: Collection[str]) -> int:
        return self._remove(parked_queue(queue), queue, lambda found: found.message.task in tasks, send_back=True)

    def _look(self, source: str, queue: str, limit: int) -> list[Arrival]:
        with self._channel() as channel:
            try:
                contents = list(channel.take(source, limit))
            except Refused as refusal:
                if refusal.code == NOT_FOUND:
                    return []
                raise
            channel.put_back(contents)
        return [arrival(content, queue) for content in contents]

    def _remove(self, source: str, queue: str, wanted: Callable[[Arrival], bool], *, send_back: bool) -> int:
        """Take what is wanted out of ``source``; how many. What is sent back is safe before it is removed."""
        with self._channel() as channel:
            try:
                contents = list(channel.take(source, _ALL))
            except Refused as refusal:
                if refusal.code == NOT_FOUND:
                    return 0
                raise
            chosen: list[Content] = []
            rest: list[Content] = []
            posts: list[Post] = []
            for content in contents:
                found = arrival(content, queue)
                if not wanted(found):
                    rest.append(content)
                    continue
                chosen.append(content)
                if send_back:
                    posts.append(return_post(found.message, queue))
            if posts:
                self._publish(posts)
            channel.acknowledge(chosen)
            channel.put_back(rest)
        return len(chosen)

    def purge_delayed(self, queue: str) -> int:
        """Remove the delayed messages of a queue; how many.

        They are in queues shared by all, so all delayed messages of the virtual host are looked at, in the order in
        which they move, so that none slips through. Those of other queues go back with the time they have left.
        """
        if self._ready(LEVEL_QUEUES[0]) is None:
            return 0
        return sum(self._purge_delay_queue(name, queue) for name in (*FRACTION_QUEUES, *LEVEL_QUEUES))

    def _purge_delay_queue(self, source: str, queue: str) -> int:
        if not self._ready(source):
            return 0
        with self._channel() as channel:
            ours: list[Content] = []
            others: list[Content] = []
            for content in channel.take(source, _ALL):
                mine = content.routing_key.split(".", LEVELS)[-1] == queue
                (ours if mine else others).append(content)
            channel.acknowledge(ours)
            channel.put_back(others)
        return len(ours)

    def _ready(self, name: str) -> int | None:
        channel: Channel
        with self._channel() as channel:
            return ready_count(channel, name)
