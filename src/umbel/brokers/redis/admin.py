"""Looking into Redis queues and tending them: sizes, dead letters, parked messages."""

from __future__ import annotations

from collections.abc import Callable, Collection
from typing import Any

import msgspec
from msgspec import Struct

from umbel.brokers.base import DeadLetter, Options, QueueSize
from umbel.brokers.envelope import decode_envelope
from umbel.brokers.redis.keys import SEPARATOR, STEPS, Keys
from umbel.brokers.redis.link import Links, Script
from umbel.errors import InvalidTaskError
from umbel.message import Message, now

_BATCH = 500
_FOREIGN = (".pidbox", "celeryev")
"""Ends of the names of exchanges whose queues hold no tasks."""

_EXPIRE = """
local function expire(index, letters, before)
  local old = redis.call('ZRANGE', index, '-inf', before, 'BYSCORE')
  for at = 1, #old, 500 do
    local last = math.min(at + 499, #old)
    redis.call('ZREM', index, unpack(old, at, last))
    redis.call('HDEL', letters, unpack(old, at, last))
  end
end
"""

_SIZE = Script(
    _EXPIRE
    + """
-- prefix, queue, moment before which dead letters have expired, dead keys (2), parked key, delayed key, lists
local prefix, queue = ARGV[1], ARGV[2]
expire(ARGV[4], ARGV[5], ARGV[3])
local ready, held, parked = 0, 0, 0
for at = 8, #ARGV do ready = ready + redis.call('LLEN', ARGV[at]) end
for _, count in ipairs(redis.call('HVALS', ARGV[6])) do parked = parked + tonumber(count) end
for _, id in ipairs(redis.call('ZRANGE', prefix .. 'umbel.consumers', 0, -1)) do
  local lists = cjson.decode(redis.call('HGET', prefix .. 'umbel.consumer.' .. id, 'lists') or '[]')
  local ours = {}
  for index, list in ipairs(lists) do
    if list[2] == queue then
      ours[tostring(index - 1)] = true
      held = held + redis.call('LLEN', prefix .. 'umbel.landing.' .. id .. '.' .. (index - 1))
    end
  end
  if next(ours) then
    for _, tag in ipairs(redis.call('HKEYS', prefix .. 'umbel.held.' .. id)) do
      if ours[string.match(tag, '^%d+')] then held = held + 1 end
    end
  end
end
return {ready, redis.call('ZCARD', ARGV[7]), held, parked, redis.call('ZCARD', ARGV[4])}
"""
)

_CONSUMED = Script("""
-- prefix, queue. Returns whether any consumer consumes the queue.
for _, id in ipairs(redis.call('ZRANGE', ARGV[1] .. 'umbel.consumers', 0, -1)) do
  for _, list in ipairs(cjson.decode(redis.call('HGET', ARGV[1] .. 'umbel.consumer.' .. id, 'lists') or '[]')) do
    if list[2] == ARGV[2] then return 1 end
  end
end
return 0
""")

_PURGE = Script("""
-- delayed key, lists. Returns how many messages were removed.
local count = redis.call('ZCARD', ARGV[1])
for at = 2, #ARGV do count = count + redis.call('LLEN', ARGV[at]) end
redis.call('UNLINK', unpack(ARGV))
return count
""")

_TAKE_DEAD = Script(
    """
-- dead keys (2), '' or the base list of the queue they are sent to again, ids. Returns how many there were.
local count = 0
for at = 4, #ARGV do
  local letter = redis.call('HGET', ARGV[2], ARGV[at])
  if letter then
    redis.call('HDEL', ARGV[2], ARGV[at])
    redis.call('ZREM', ARGV[1], ARGV[at])
    count = count + 1
    if ARGV[3] ~= '' then
      local line = string.find(letter, '\\n', 1, true)
      local step = tostring(cjson.decode(string.sub(letter, 1, line - 1)).step)
      local list = ARGV[3]
      if step ~= '0' then list = list .. '"""
    + SEPARATOR
    + """' .. step end
      redis.call('LPUSH', list, string.sub(letter, line + 1))
    end
  end
end
return count
"""
)

_UNPARK = Script(
    """
-- parked key, base list, limit, task, list of the task's messages. Returns how many were moved.
local count = 0
while count < tonumber(ARGV[3]) do
  local parked = redis.call('RPOP', ARGV[5])
  if not parked then break end
  local step, list = string.sub(parked, 1, 1), ARGV[2]
  if step ~= '0' then list = list .. '"""
    + SEPARATOR
    + """' .. step end
  redis.call('LPUSH', list, string.sub(parked, 2))
  count = count + 1
end
if count > 0 and redis.call('HINCRBY', ARGV[1], ARGV[4], -count) <= 0 then
  redis.call('HDEL', ARGV[1], ARGV[4])
end
return count
"""
)


class _Note(Struct):
    """The first line of a dead letter."""

    reason: str
    at: float
    step: str | int
    deliveries: float = 0


class Administration:
    """The administrative half of the broker."""

    def __init__(self, links: Links, keys: Keys, options: Options) -> None:
        self._links = links
        self._keys = keys
        self._options = options

    def queues(self) -> list[str]:
        """Queues that Umbel or Celery registered in this database."""
        names = {name.decode() for name in self._links.call("HKEYS", self._keys.queues)}
        start = self._keys.binding("")
        cursor: Any = 0
        while True:
            cursor, found = self._links.call(
                "SCAN", cursor, "MATCH", _escape(start) + "*", "COUNT", 1000, "TYPE", "set"
            )
            exchanges = [key for key in found if not key.decode().endswith(_FOREIGN)]
            if exchanges:
                for members in self._links.call_all([("SMEMBERS", key) for key in exchanges]):
                    names |= {member.decode().split(SEPARATOR)[-1] for member in members}
            if not int(cursor):
                return sorted(names)

    def size(self, queue: str) -> QueueSize:
        keys = self._keys
        before = now() - self._options.dead_letter_expires
        dead = (keys.dead(queue), keys.dead_letters(queue))
        rest = (keys.parked(queue), keys.delayed(queue), *keys.lists(queue))
        ready, delayed, held, parked, buried = self._links.run(_SIZE, (keys.prefix, queue, before, *dead, *rest))
        return QueueSize(ready=ready, delayed=delayed, held=held, parked=parked, dead=buried)

    def is_consumed(self, queue: str) -> bool:
        return bool(self._links.run(_CONSUMED, (self._keys.prefix, queue)))

    def peek(self, queue: str, limit: int) -> list[Message]:
        steps = STEPS if self._options.lowest_priority_first else STEPS[::-1]
        commands = [("LRANGE", self._keys.ready(queue, step), -limit, -1) for step in steps]
        found = [raw for values in self._links.call_all(commands) for raw in reversed(values)] if limit > 0 else []
        return [read_envelope(raw, queue) for raw in found[:limit]]

    def purge(self, queue: str) -> int:
        return self._links.run(_PURGE, (self._keys.delayed(queue), *self._keys.lists(queue)))

    def delete(self, queue: str) -> None:
        keys = self._keys
        parked = [keys.parked_task(queue, task) for task in self.parked(queue)]
        document = self._links.call("HGET", keys.queues, queue)
        exchanges = {queue}
        if document:
            exchanges.add(str(msgspec.json.decode(document)["exchange"]))
        commands: list[tuple[Any, ...]] = [
            ("UNLINK", keys.delayed(queue), keys.dead(queue), keys.dead_letters(queue), keys.parked(queue)),
            ("UNLINK", *keys.lists(queue), *parked),
            ("HDEL", keys.queues, queue),
        ]
        for exchange in exchanges:
            for key in (keys.binding(exchange), keys.binding_permanent(exchange)):
                members = [member for member in self._links.call("SMEMBERS", key) if _queue_of(member) == queue]
                if members:
                    commands.append(("SREM", key, *members))
        self._links.call_all(commands)

    # -- dead letters --

    def dead_letters(self, queue: str, limit: int) -> list[DeadLetter]:
        before = now() - self._options.dead_letter_expires
        index, letters = self._keys.dead(queue), self._keys.dead_letters(queue)
        ids = self._links.call("ZRANGE", index, f"({before}", "+inf", "BYSCORE", "LIMIT", 0, limit)
        found: list[bytes | None] = self._links.call("HMGET", letters, *ids) if ids else []
        return [_letter(id.decode(), queue, raw) for id, raw in zip(ids, found, strict=True) if raw is not None]

    def replay(self, queue: str, ids: Collection[str] | None) -> int:
        return self._take_dead(queue, ids, self._keys.ready(queue, 0))

    def purge_dead(self, queue: str, ids: Collection[str] | None) -> int:
        return self._take_dead(queue, ids, "")

    def _take_dead(self, queue: str, ids: Collection[str] | None, target: str) -> int:
        before = now() - self._options.dead_letter_expires
        index, letters = self._keys.dead(queue), self._keys.dead_letters(queue)
        known = self._links.call("ZRANGE", index, f"({before}", "+inf", "BYSCORE")
        chosen = [id for id in known if ids is None or id.decode() in ids]
        return self._in_batches(chosen, lambda batch: self._links.run(_TAKE_DEAD, (index, letters, target, *batch)))

    def _in_batches(self, items: list[Any], action: Callable[[list[Any]], int]) -> int:
        return sum(action(items[at : at + _BATCH]) for at in range(0, len(items), _BATCH))

    # -- parked --

    def parked(self, queue: str) -> dict[str, int]:
        found = self._links.call("HGETALL", self._keys.parked(queue))
        return {task.decode(): int(count) for task, count in found.items()}

    def unpark(self, queue: str, tasks: Collection[str]) -> int:
        total = 0
        for task in dict.fromkeys(tasks):
            arguments = (self._keys.parked(queue), self._keys.ready(queue, 0), _BATCH, task)
            while True:
                moved = self._links.run(_UNPARK, (*arguments, self._keys.parked_task(queue, task)))
                total += moved
                if moved < _BATCH:
                    break
        return total


def read_envelope(raw: bytes, queue: str) -> Message:
    """The message in an envelope; one that cannot be read has the raw bytes as its body."""
    try:
        return decode_envelope(raw, queue)
    except InvalidTaskError:
        return Message(id="", task="", queue=queue, headers=b"{}", body=raw)


def _letter(id: str, queue: str, raw: bytes) -> DeadLetter:
    line, _, envelope = raw.partition(b"\n")
    note = msgspec.json.decode(line, type=_Note)
    message = read_envelope(envelope, queue)
    return DeadLetter(id, queue, message, note.reason, note.at, int(note.deliveries))


def _queue_of(member: bytes) -> str:
    return member.decode().rpartition(SEPARATOR)[2]


def _escape(text: str) -> str:
    return "".join("\\" + char if char in "*?[]\\^" else char for char in text)
