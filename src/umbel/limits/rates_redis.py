"""Buckets in Redis, judged by the server's clock in one script.

=====================================  ====  =========================================================
``umbel.rate.<bucket>``                hash  ``free``, ``tail``, ``late``, ``interval``; see ``Bucket``
``umbel.rate.<bucket>\\x06\\x16waiting``  zset  task id → the moment that it was given
=====================================  ====  =========================================================

Both expire when everything that they say is in the past, and ``KEEP`` seconds more.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from umbel.brokers.redis.keys import SEPARATOR
from umbel.brokers.redis.link import Script
from umbel.brokers.redis.scripts import CLOCK
from umbel.limits.buckets import CATCH_UP, KEEP, OVERDUE, SOON, Ask, RateStore

if TYPE_CHECKING:
    from umbel.backends.redis import RedisBackend
    from umbel.brokers.redis import RedisBroker
    from umbel.brokers.redis.link import Links

_MOST_AT_ONCE = 1000

_TAKE = Script(
    CLOCK
    + f"""
-- n * (bucket key, waiting key, seconds between two, m, m task ids).
-- Returns the seconds that each task has to wait, as text, '0' for now. The arithmetic is that of Bucket.place;
-- before it, what is overdue is given to another task.
local soon, catch_up, keep, overdue = {SOON}, {CATCH_UP}, {KEEP}, {OVERDUE}
local function text(number) return string.format('%.6f', number) end

local waits, at = {{}}, 1
while at < #ARGV do
  local key, waiting, interval, count = ARGV[at], ARGV[at + 1], tonumber(ARGV[at + 2]), tonumber(ARGV[at + 3])
  local kept = redis.call('HMGET', key, 'free', 'tail', 'late', 'interval')
  local before = tonumber(kept[4] or interval)
  local function known(text)
    local moment = tonumber(text or 0)
    return moment > now and now + (moment - now) * interval / before or moment
  end
  local free, tail, late = known(kept[1]), known(kept[2]), known(kept[3])
  redis.call('ZREMRANGEBYSCORE', waiting, '-inf', now - keep)
  for number = at + 4, at + 3 + count do
    local id = ARGV[number]
    local given = tonumber(redis.call('ZSCORE', waiting, id) or nil)
    local moment
    if not given or given > now + soon then
      local first = redis.call('ZRANGEBYSCORE', waiting, '-inf', now - overdue, 'WITHSCORES', 'LIMIT', 0, 1)
      if first[1] then
        if given then
          redis.call('ZADD', waiting, text(given), first[1])
        else
          redis.call('ZREM', waiting, first[1])
        end
        given = tonumber(first[2])
        redis.call('ZADD', waiting, first[2], id)
      end
    end
    if given and given > now + soon then
      moment = given
    else
      local from = math.max(free, now - catch_up)
      moment = given and from or math.max(from, tail, late, now)
      if moment <= now + soon then
        free = from + interval
        if given then redis.call('ZREM', waiting, id) end
      else
        if given then
          moment = math.max(moment, late)
          late = moment + interval
        end
        redis.call('ZADD', waiting, text(moment), id)
      end
      if not given then tail = moment + interval end
    end
    waits[#waits + 1] = moment <= now + soon and '0' or text(moment - now)
  end
  redis.call('HSET', key, 'free', text(free), 'tail', text(tail), 'late', text(late), 'interval', ARGV[at + 2])
  local rest = math.ceil(math.max(tail, late, free) - now + keep)
  redis.call('EXPIRE', key, rest)
  redis.call('EXPIRE', waiting, rest)
  at = at + 4 + count
end
return waits
"""
)


class RedisRates(RateStore):
    """See the module's docstring."""

    def __init__(self, links: Links, prefix: str) -> None:
        self._links = links
        self._prefix = f"{prefix}umbel.rate."

    def take(self, asks: Sequence[Ask]) -> list[float]:
        waits: list[float] = []
        for start in range(0, len(asks), _MOST_AT_ONCE):
            waits += self._take(asks[start : start + _MOST_AT_ONCE])
        return waits

    def _take(self, asks: Sequence[Ask]) -> list[float]:
        buckets: dict[tuple[str, float], list[int]] = {}
        for number, ask in enumerate(asks):
            buckets.setdefault((ask.bucket, ask.interval), []).append(number)
        arguments: list[Any] = []
        for (bucket, interval), numbers in buckets.items():
            key = self._prefix + bucket
            arguments += (key, f"{key}{SEPARATOR}waiting", repr(interval), len(numbers))
            arguments += [asks[number].task_id for number in numbers]
        answers = iter(self._links.run(_TAKE, arguments))
        waits = [0.0] * len(asks)
        for numbers in buckets.values():
            for number in numbers:
                waits[number] = float(next(answers))
        return waits


def open_store(driver: RedisBroker | RedisBackend, prefix: str) -> RedisRates:
    """Buckets in the server of ``driver``, over its connections."""
    return RedisRates(driver.links, prefix)
