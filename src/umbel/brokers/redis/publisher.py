"""Sending messages to Redis: where each goes, and getting it there once within one deadline.

Every publication has a publisher's name and a number that grows; the server remembers the last one for 300 s, so that
repeating it after a broken answer changes nothing.
"""

from __future__ import annotations

import os
import time
from collections import deque
from collections.abc import Iterator, Sequence
from typing import Any

import msgspec
from msgspec import Struct

from umbel.brokers.base import Options
from umbel.brokers.envelope import encode_envelope
from umbel.brokers.redis.keys import SEPARATOR, UNIQUE, Keys, step_of
from umbel.brokers.redis.link import Call, Link, Links, is_unknown_script, raise_refusal
from umbel.brokers.redis.scripts import PUBLISH, PUSH
from umbel.brokers.routing import Binding, topic_matches
from umbel.errors import OperationalError, PublishTimeout, UmbelError, UnroutableMessage
from umbel.message import Message, new_id, now
from umbel.queues import Queue

_NUMBER = 1
"""Where the arguments of a call have its number; after it comes that of the first call of its publication."""

_TOO_EARLY = 2
"""What a call returns that was not run because the one before it was not."""

_RUN = frozenset({0, 1})
"""What one returns that was run, now or before."""

_CHUNK_COUNT = 500
_CHUNK_BYTES = 1 << 17
"""So that the server has something to do while the rest is packed."""
_FIRST_PAUSE = 0.02
_LONGEST_PAUSE = 0.5


class Publisher(Struct):
    """A name under which publications are numbered; used by one call at a time."""

    key: str
    number: int = 0


class Place(Struct, gc=False):
    """One thing that publishing a message writes.

    ``kind``: ``l`` a list, ``h`` a list that nobody waits at, so that a hint is sent to ``channel``, ``z`` a delayed
    set, ``p`` a channel.
    """

    kind: str
    key: str
    score: float
    value: bytes
    channel: str = ""


class _Commands:
    """Calls that are made once and may be sent again. ``made``: those that were asked for so far and are not known to
    have been run; ``count``: how many were made in all."""

    __slots__ = ("_rest", "count", "made")

    def __init__(self, made: list[Call], rest: Iterator[Call] | None = None) -> None:
        self.made = made
        self.count = len(made)
        self._rest = rest

    def __iter__(self) -> Iterator[Call]:
        return iter(self.made) if self._rest is None else self._all(self._rest)

    def _all(self, rest: Iterator[Call]) -> Iterator[Call]:
        yield from self.made
        for call in rest:
            self.made.append(call)
            self.count += 1
            yield call

    def keep(self, undone: list[Call]) -> None:
        """All others were run: the first of these need not wait for them."""
        self.made = undone
        for call in undone:
            key, number, _, *rest = call.arguments
            call.arguments = [key, number, undone[0].arguments[_NUMBER], *rest]


class Publishing:
    """The publishing half of the broker."""

    def __init__(self, links: Links, keys: Keys, options: Options) -> None:
        self._links = links
        self._keys = keys
        self._options = options
        self._publishers: deque[Publisher] = deque()
        self._made: list[str] = []
        self._declared: dict[str, Queue] = {}
        self._registered: set[str] = set()
        self._known_lists: dict[tuple[str, int], str] = {}

    @property
    def declared(self) -> dict[str, Queue]:
        """Queues declared in this process, by name."""
        return self._declared

    # -- declaring --

    def declare(self, queue: Queue, timeout: float) -> None:
        """Register a queue and its binding, for Umbel and for Celery's tools, within ``timeout`` seconds."""
        self._declared[queue.name] = queue
        self._links.call_all(self._registration(queue), timeout)
        self._registered.add(queue.name)

    def forget(self, queue: str) -> None:
        """The queue was deleted: the next message to it registers it anew."""
        self._declared.pop(queue, None)
        self._registered.discard(queue)

    def _registration(self, queue: Queue) -> list[tuple[Any, ...]]:
        binding = Binding(queue.name, queue.exchange.type, queue.binding_key, dict(queue.binding_arguments))
        document = {"exchange": queue.exchange_name, "binding": binding, "auto_delete": queue.auto_delete}
        member = celery_member(queue)
        return [
            ("SADD", self._keys.binding(queue.exchange_name), member),
            ("SADD", self._keys.binding_permanent(queue.exchange_name), member),
            ("HSET", self._keys.queues, queue.name, msgspec.json.encode(document)),
        ]

    def _register_new(self, queues: set[str], timeout: float) -> None:
        new = [self._declared.get(queue) or Queue(queue) for queue in queues - self._registered]
        commands = [command for queue in new for command in self._registration(queue)]
        if commands:
            self._links.call_all(commands, timeout)
            self._registered.update(queue.name for queue in new)

    # -- routing --

    def places(self, message: Message, moment: float) -> list[Place]:
        """What publishing ``message`` writes. Raises UnroutableMessage, and what reading the bindings raises."""
        envelope = encode_envelope(message)
        if not message.exchange:
            return [self._place(message, message.queue, envelope, moment)]
        queues, channel = self._route(message)
        places = [self._place(message, queue, envelope, moment) for queue in queues]
        if channel:
            places.append(Place("p", channel, 0.0, envelope))
        return places

    def _place(self, message: Message, queue: str, envelope: bytes, moment: float) -> Place:
        step = step_of(message.priority)
        if message.eta is not None and message.eta > moment and not self._options.mixed_fleet:
            member = f"{step}{os.urandom(UNIQUE // 2).hex()}".encode() + envelope
            return Place("z", self._keys.delayed(queue), message.eta, member)
        if step:
            return Place("h", self._list(queue, step), 0.0, envelope, self._keys.delayed(queue))
        return Place("l", self._list(queue, step), 0.0, envelope)

    def _list(self, queue: str, step: int) -> str:
        key = self._known_lists.get((queue, step))
        if key is None:
            if len(self._known_lists) > 10_000:
                self._known_lists.clear()
            key = self._known_lists[queue, step] = self._keys.ready(queue, step)
        return key

    def _route(self, message: Message) -> tuple[list[str], str]:
        members, documents = self._links.call_all(
            [("SMEMBERS", self._keys.binding(message.exchange)), ("HGETALL", self._keys.queues)]
        )
        queues: list[str] = []
        channel = ""
        known: set[str] = set()
        for name, document in documents.items():
            bound = msgspec.json.decode(document, type=_Registered)
            if bound.exchange == message.exchange:
                known.add(name.decode())
                if bound.binding.takes(message):
                    queues.append(bound.binding.queue)
                if bound.binding.type == "fanout":
                    channel = self._keys.fanout(self._links.server.db, message.exchange, message.routing_key)
        for member in members:
            key, pattern, queue = member.decode().split(SEPARATOR)
            fits = topic_matches(key, message.routing_key) if pattern else key == message.routing_key
            if queue not in known and fits:
                queues.append(queue)
        if not queues and not channel:
            raise UnroutableMessage(
                f"task {message.task or message.id!r} was not sent: no queue is bound to exchange"
                f" {message.exchange!r} with routing key {message.routing_key!r}"
            )
        return list(dict.fromkeys(queues)), channel

    # -- sending --

    def publish(self, messages: Sequence[Message], timeout: float) -> None:
        """See ``Broker.publish``."""
        if not messages:
            return
        deadline = time.monotonic() + timeout
        try:
            publisher = self._publishers.pop()
        except IndexError:
            publisher = Publisher(self._keys.publisher(new_id()))
            self._made.append(publisher.key)
        commands = self._calls(messages, publisher, deadline)
        pause = 0.0
        try:
            while True:
                try:
                    self._send(commands, deadline)
                    return
                except OperationalError as error:
                    self._registered.clear()
                    if not commands.count:
                        commands = self._calls(messages, publisher, deadline)
                    if time.monotonic() + pause >= deadline:
                        raise PublishTimeout(f"not sent within {timeout:g} s: {error}") from error
                    time.sleep(pause)
                    pause = min(_LONGEST_PAUSE, 2 * pause or _FIRST_PAUSE)
        finally:
            publisher.number += commands.count
            self._publishers.append(publisher)

    def _send(self, commands: _Commands, deadline: float) -> None:
        links = self._links
        generation = links.generation
        link = links.take(max(0.001, deadline - time.monotonic()))
        try:
            while True:
                for call in commands:
                    link.send(call.pack(), max(0.001, deadline - time.monotonic()))
                replies = [link.read(max(0.001, deadline - time.monotonic()), eager=True) for _ in commands.made]
                if _RUN.issuperset(replies):
                    return
                self._load_missing(link, commands, replies)
        except BaseException as error:
            if not isinstance(error, UmbelError):
                link.close()
            raise
        finally:
            links.give(link, generation)

    def _load_missing(self, link: Link, commands: _Commands, replies: Sequence[Any]) -> None:
        """Have the server know scripts that it did not: ``commands`` are then what is still to be run.

        Raises OperationalError, BrokerError for other refusals.
        """
        answered = list(zip(commands.made, replies, strict=True))
        unknown = {id(call): call.script for call, reply in answered if is_unknown_script(reply)}
        for call, reply in answered:
            if isinstance(reply, Exception) and id(call) not in unknown:
                raise_refusal(reply)
        link.load(dict.fromkeys(unknown.values()))
        commands.keep([call for call, reply in answered if id(call) in unknown or reply == _TOO_EARLY])

    def _calls(self, messages: Sequence[Message], publisher: Publisher, deadline: float) -> _Commands:
        if len(messages) == 1:
            message = messages[0]
            if not message.exchange and message.queue in self._registered:
                place = self._place(message, message.queue, encode_envelope(message), now())
                call = _call_for(publisher, publisher.number + 1, place.kind, place.key, [place])
                return _Commands([call])
        return _Commands([], self._commands(messages, publisher, deadline))

    def _commands(self, messages: Sequence[Message], publisher: Publisher, deadline: float) -> Iterator[Call]:
        """Calls of the script, made as they are asked for: while the server takes one, the next is packed.

        Raises OperationalError before the first, if at all.
        """
        moment = now()
        number = publisher.number
        self._register_new(
            {message.queue for message in messages if not message.exchange}, max(0.001, deadline - time.monotonic())
        )
        routed = any(message.exchange for message in messages)
        step = len(messages) if routed else _CHUNK_COUNT
        for first in range(0, len(messages), step):
            groups: dict[tuple[str, str], list[Place]] = {}
            for message in messages[first : first + step]:
                for place in self.places(message, moment):
                    if group := groups.get((place.kind, place.key)):
                        group.append(place)
                    else:
                        groups[place.kind, place.key] = [place]
            for (kind, key), members in groups.items():
                for chunk in _chunks(members, 1 if kind == "p" else _CHUNK_COUNT):
                    number += 1
                    yield _call_for(publisher, number, kind, key, chunk)

    # -- life --

    def close(self) -> None:
        """Remove the names of publishers from the server. Raises OperationalError."""
        made, self._made = self._made, []
        self._publishers.clear()
        if made:
            self._links.call("DEL", *made)

    def after_fork(self) -> None:
        """Publishers belong to the parent."""
        self._publishers = deque()
        self._made = []


class _Registered(Struct):
    """How a queue is bound, as it is kept in ``umbel.queues``."""

    exchange: str
    binding: Binding
    auto_delete: bool = False


def celery_member(queue: Queue) -> str:
    """The member of Celery's binding sets that stands for the binding of ``queue``."""
    key, pattern = queue.binding_key, ""
    if queue.exchange.type == "topic":
        words = {"*": r".*?[^\.]", "#": r".*?"}
        pattern = "^" + r"\.".join(words.get(word, word) for word in key.split(".")) + "$"
    return SEPARATOR.join((key, pattern, queue.name))


def _chunks(places: list[Place], count: int) -> list[list[Place]]:
    chunks: list[list[Place]] = []
    size = _CHUNK_BYTES
    for place in places:
        if size >= _CHUNK_BYTES or len(chunks[-1]) >= count:
            chunks.append([])
            size = 0
        chunks[-1].append(place)
        size += len(place.value)
    return chunks


def _call_for(publisher: Publisher, number: int, kind: str, key: str, chunk: list[Place]) -> Call:
    head = [publisher.key, number, publisher.number + 1]
    if kind == "l":
        return Call(PUSH, [*head, key, *[place.value for place in chunk]])
    if kind == "z":
        return Call(PUBLISH, [*head, kind, key, *[part for place in chunk for part in (place.score, place.value)]])
    channel = [chunk[0].channel] if kind == "h" else []
    return Call(PUBLISH, [*head, kind, key, *channel, *[place.value for place in chunk]])
