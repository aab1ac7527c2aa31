"""Finding out where a task's message stands in Redis, by looking through all that is stored.

Values are searched in the server, a page at a time, so that no call keeps it busy for longer than a few milliseconds;
only those that match are sent. Places are looked at in the order in which messages pass through them, each list from
its new end: what moves on meanwhile is met again. What moved back (a retry, a requeue) is found by a second look.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from typing import Any

import msgspec

from umbel.brokers.base import Place
from umbel.brokers.envelope import decode_envelope
from umbel.brokers.redis.keys import STEPS, UNIQUE, Keys
from umbel.brokers.redis.link import Links, Script
from umbel.errors import InvalidTaskError

_PAGE = 500

_SEARCH = Script("""
-- length of a command, the command, texts. Returns how many values the command gave, and those that contain a text.
local length, found = tonumber(ARGV[1]), {}
local values = redis.call(unpack(ARGV, 2, length + 1))
for _, value in ipairs(values) do
  for at = length + 2, #ARGV do
    if value and string.find(value, ARGV[at], 1, true) then
      found[#found + 1] = value
      break
    end
  end
end
return {#values, found}
""")


class Search:
    """The search for one task."""

    def __init__(self, links: Links, keys: Keys, task_id: str) -> None:
        self._links = links
        self._keys = keys
        self._id = task_id
        self._texts = {json.dumps(task_id), json.dumps(task_id, ensure_ascii=False)}

    def run(self, queues: Sequence[str]) -> Place | None:
        """The place of the message, in these queues or held by any worker; None when there is none."""
        return self._look(queues) or self._look(queues)

    def _look(self, queues: Sequence[str]) -> Place | None:
        keys = self._keys
        for queue in queues:
            if any(self._is_it(raw[1 + UNIQUE :]) for raw in self._pages("ZRANGE", keys.delayed(queue), "REV")):
                return "delayed"
        for queue in queues:
            for step in STEPS:
                if any(map(self._is_it, self._pages("LRANGE", keys.ready(queue, step)))):
                    return "ready"
        if any(map(self._is_it, self._held())):
            return "held"
        for queue in queues:
            for task in self._links.call("HKEYS", keys.parked(queue)):
                parked = self._pages("LRANGE", keys.parked_task(queue, task.decode()))
                if any(self._is_it(raw[1:]) for raw in parked):
                    return "parked"
        for queue in queues:
            if any(self._is_it(raw.partition(b"\n")[2]) for raw in self._dead(queue)):
                return "dead"
        return None

    def _held(self) -> Iterator[bytes]:
        """What Umbel's consumers hold, or have landed, and what Celery's hold."""
        keys = self._keys
        for name in self._links.call("ZRANGE", keys.consumers, 0, -1):
            consumer = name.decode()
            lists = self._links.call("HGET", keys.consumer(consumer), "lists") or b"[]"
            for index in range(len(msgspec.json.decode(lists))):
                yield from self._found("LRANGE", keys.landing(consumer, index), 0, -1)[1]
            yield from self._found("HVALS", keys.held(consumer))[1]
        for raw in self._found("HVALS", keys.celery_unacked)[1]:
            yield bytes(msgspec.json.decode(raw, type=list[msgspec.Raw])[0])

    def _dead(self, queue: str) -> Iterator[bytes]:
        index, letters = self._keys.dead(queue), self._keys.dead_letters(queue)
        at = 0
        while ids := self._links.call("ZRANGE", index, at, at + _PAGE - 1, "REV"):
            yield from self._found("HMGET", letters, *ids)[1]
            at += _PAGE

    def _pages(self, command: str, key: str, *more: str) -> Iterator[bytes]:
        at, count = 0, _PAGE
        while count == _PAGE:
            count, found = self._found(command, key, at, at + _PAGE - 1, *more)
            yield from found
            at += _PAGE

    def _found(self, *command: Any) -> tuple[int, list[bytes]]:
        count, found = self._links.run(_SEARCH, (len(command), *command, *self._texts))
        return count, found

    def _is_it(self, envelope: bytes) -> bool:
        try:
            return decode_envelope(envelope, "").id == self._id
        except InvalidTaskError:
            return False
