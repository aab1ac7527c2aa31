"""Exchanges and bindings for brokers whose system has none: which queues take a message."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from msgspec import Struct, field

from umbel.errors import UnroutableMessage
from umbel.message import Message, decode_headers
from umbel.queues import Queue


def topic_matches(pattern: str, key: str) -> bool:
    """Whether a routing key fits an AMQP topic pattern: ``*`` is one word, ``#`` any number of words."""
    return _words_match(pattern.split("."), key.split(".") if key else [])


def _words_match(pattern: list[str], words: list[str]) -> bool:
    if not pattern:
        return not words
    head, rest = pattern[0], pattern[1:]
    if head == "#":
        return any(_words_match(rest, words[skip:]) for skip in range(len(words) + 1))
    return bool(words) and head in ("*", words[0]) and _words_match(rest, words[1:])


class Binding(Struct, frozen=True):
    """A queue bound to an exchange."""

    queue: str
    type: str
    key: str
    arguments: Mapping[str, Any] = field(default_factory=dict[str, Any])

    def takes(self, message: Message) -> bool:
        if self.type == "fanout":
            return True
        if self.type == "topic":
            return topic_matches(self.key, message.routing_key)
        if self.type == "headers":
            return self._headers_match(decode_headers(message.headers))
        return self.key == message.routing_key

    def _headers_match(self, headers: Mapping[str, Any]) -> bool:
        wanted = [name for name in self.arguments if not name.startswith("x-")]
        fits = (headers.get(name) == self.arguments[name] for name in wanted)
        return any(fits) if self.arguments.get("x-match") == "any" else all(fits)


class Bindings:
    """All bindings of a broker. Not safe for threads by itself."""

    def __init__(self) -> None:
        self._by_exchange: dict[str, list[Binding]] = {}

    def declare(self, queue: Queue) -> None:
        """Bind ``queue`` to its exchange, once."""
        binding = Binding(queue.name, queue.exchange.type, queue.binding_key, queue.binding_arguments)
        bound = self._by_exchange.setdefault(queue.exchange_name, [])
        if binding not in bound:
            bound.append(binding)

    def remove(self, queue: str) -> None:
        """Forget the bindings of a queue."""
        for exchange in list(self._by_exchange):
            kept = [binding for binding in self._by_exchange[exchange] if binding.queue != queue]
            if kept:
                self._by_exchange[exchange] = kept
            else:
                del self._by_exchange[exchange]

    def route(self, message: Message) -> list[str]:
        """Names of the queues that take ``message``. Raises UnroutableMessage when there is none."""
        if not message.exchange:
            return [message.queue]
        bound = self._by_exchange.get(message.exchange, [])
        queues = list(dict.fromkeys(binding.queue for binding in bound if binding.takes(message)))
        if not queues:
            raise UnroutableMessage(
                f"task {message.task or message.id!r} was not sent: no queue is bound to exchange"
                f" {message.exchange!r} with routing key {message.routing_key!r}"
            )
        return queues
