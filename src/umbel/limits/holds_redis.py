"""Holds and claims in Redis: scripts that go by the server's clock.

====================================  ======  ==================================================================
``umbel.holds.<key>``                 zset    token → end of the hold
``umbel.holds.waiting.<key>``         zset    task id → when it first came
``umbel.holds.due.<key>``             zset    task id → when it is to come again
``umbel.holds.pace.<key>``            hash    ``mean``: of durations; ``last``: when one was let in
``umbel.unique.<key>``                string  id of the task that has the key
====================================  ======  ==================================================================

Times are milliseconds of the server, but for the order of arrival, which is in microseconds.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from umbel.brokers.redis.link import Links, Script
from umbel.limits import holds_line as line
from umbel.limits.holds_store import ANY, Claim, Hold, HoldStore, Wish

if TYPE_CHECKING:
    from umbel.backends.redis import RedisBackend
    from umbel.brokers.redis import RedisBroker

_NOW = """
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local prefix, ttl = ARGV[1], tonumber(ARGV[2])
local function clamp(value, least, most) return math.max(least, math.min(value, most)) end
"""

_ACQUIRE = Script(
    _NOW
    + f"""
-- n * (key, limit, token, task id, able)
local moment = time[1] * 1000000 + time[2]
local answers = {{}}
for at = 3, #ARGV, 5 do
    local key, limit, token, id, able = ARGV[at], tonumber(ARGV[at + 1]), ARGV[at + 2], ARGV[at + 3], ARGV[at + 4]
    local held, waiting = prefix .. key, prefix .. 'waiting.' .. key
    local due, pace = prefix .. 'due.' .. key, prefix .. 'pace.' .. key
    redis.call('ZREMRANGEBYSCORE', held, '-inf', now)
    local forgotten = now - {line.FORGOTTEN * 1000:.0f}
    for _, gone in ipairs(redis.call('ZRANGE', due, '-inf', forgotten, 'BYSCORE', 'LIMIT', 0, 100)) do
        redis.call('ZREM', due, gone)
        redis.call('ZREM', waiting, gone)
    end
    local count = redis.call('ZCARD', held)
    local found = redis.call('HMGET', pace, 'mean', 'last')
    local duration = math.max(tonumber(found[1] or 0), {line.QUICKEST * 1000:.0f})
    if count > 0 then duration = math.max(duration, now - (found[2] or now)) end
    local front = clamp(duration / {line.FRACTION}, {line.SHORTEST * 1000:.0f}, {line.LONGEST_IN_FRONT * 1000:.0f})
    local known = redis.call('ZSCORE', waiting, id)
    local kept = 0
    if not known and redis.call('ZCOUNT', due, '-inf', now - {line.LATE * 1000:.0f}) == 0 then
        kept = redis.call('ZCOUNT', due, '-inf', now + front)
    end
    if able == '1' and limit - count > kept then
        redis.call('ZADD', held, now + ttl, token)
        redis.call('PEXPIRE', held, ttl)
        redis.call('ZREM', waiting, id)
        redis.call('ZREM', due, id)
        redis.call('HSET', pace, 'last', now)
        redis.call('PEXPIRE', pace, {line.KEPT * 1000:.0f})
        answers[#answers + 1] = 0
    else
        if not known then redis.call('ZADD', waiting, string.format('%.0f', moment + at), id) end
        local rank = redis.call('ZRANK', waiting, id)
        local pause = front * (1 + rank / (limit + 2))
        if rank >= limit + 2 then
            pause = clamp(duration / limit * (rank + 1) / 2, front, {line.LONGEST * 1000:.0f})
        end
        pause = math.ceil(pause)
        redis.call('ZADD', due, now + pause, id)
        redis.call('PEXPIRE', waiting, {line.KEPT * 1000:.0f})
        redis.call('PEXPIRE', due, {line.KEPT * 1000:.0f})
        answers[#answers + 1] = pause
    end
end
return answers
"""
)

_KEEP = """
-- n * (key, token)
local lost = {}
for at = 3, #ARGV, 2 do
    local held, token = prefix .. ARGV[at], ARGV[at + 1]
    if MUST_BE_THERE and not redis.call('ZSCORE', held, token) then
        lost[#lost + 1] = (at - 3) / 2
    else
        redis.call('ZADD', held, now + ttl, token)
        redis.call('PEXPIRE', held, ttl)
    end
end
return lost
"""
_RENEW = Script(_NOW + _KEEP.replace("MUST_BE_THERE", "true"))
_RESTORE = Script(_NOW + _KEEP.replace("MUST_BE_THERE", "false"))

_RELEASE = Script(
    f"""
-- prefix, n * (key, token, milliseconds)
for at = 2, #ARGV, 3 do
    local duration = tonumber(ARGV[at + 2])
    if redis.call('ZREM', ARGV[1] .. ARGV[at], ARGV[at + 1]) == 1 then
        local pace = ARGV[1] .. 'pace.' .. ARGV[at]
        local mean = tonumber(redis.call('HGET', pace, 'mean') or duration)
        redis.call('HSET', pace, 'mean', tostring(mean + {line.WEIGHT} * (duration - mean)))
        redis.call('PEXPIRE', pace, {line.KEPT * 1000:.0f})
    end
end
return 1
"""
)

_CLAIM = Script(
    f"""
-- prefix, n * (key, task id, milliseconds, instead of whom)
local owners = {{}}
for at = 2, #ARGV, 4 do
    local key, id, ttl, instead = ARGV[1] .. ARGV[at], ARGV[at + 1], ARGV[at + 2], ARGV[at + 3]
    local owner = redis.call('GET', key)
    if not owner or owner == instead or instead == '{ANY}' then owner = id end
    if owner == id then redis.call('SET', key, id, 'PX', ttl) end
    owners[#owners + 1] = owner
end
return owners
"""
)

_UNCLAIM = Script("""
-- prefix, n * (key, task id)
for at = 2, #ARGV, 2 do
    if redis.call('GET', ARGV[1] .. ARGV[at]) == ARGV[at + 1] then redis.call('DEL', ARGV[1] .. ARGV[at]) end
end
return 1
""")


def open_store(driver: RedisBroker | RedisBackend, prefix: str, timeout: float) -> HoldStore:
    """The store in a driver's Redis. ``timeout``: seconds for each call."""
    return RedisHolds(driver.links, prefix, timeout)


class RedisHolds:
    """See ``HoldStore``. ``prefix`` stands before all keys; ``timeout`` is in seconds."""

    def __init__(self, links: Links, prefix: str, timeout: float) -> None:
        self._links = links
        self._holds = f"{prefix}umbel.holds."
        self._unique = f"{prefix}umbel.unique."
        self._timeout = timeout

    def _run(self, script: Script, arguments: Sequence[Any]) -> Any:
        return self._links.run(script, arguments, self._timeout)

    def acquire(self, wishes: Sequence[Wish], ttl: float) -> list[float]:
        arguments: list[Any] = [self._holds, _milliseconds(ttl)]
        for wish in wishes:
            arguments += (wish.key, wish.limit, wish.token, wish.task_id, int(wish.able))
        return [pause / 1000 for pause in self._run(_ACQUIRE, arguments)]

    def renew(self, holds: Sequence[Hold], ttl: float) -> list[Hold]:
        lost = self._run(_RENEW, [self._holds, _milliseconds(ttl), *(part for hold in holds for part in hold)])
        return [holds[at] for at in lost]

    def restore(self, holds: Sequence[Hold], ttl: float) -> None:
        self._run(_RESTORE, [self._holds, _milliseconds(ttl), *(part for hold in holds for part in hold)])

    def release(self, ended: Sequence[tuple[Hold, float]]) -> None:
        arguments: list[Any] = [self._holds]
        for hold, duration in ended:
            arguments += (*hold, _milliseconds(duration))
        self._run(_RELEASE, arguments)

    def claim(self, claims: Sequence[Claim]) -> list[str]:
        arguments: list[Any] = [self._unique]
        for claim in claims:
            arguments += (claim.key, claim.task_id, _milliseconds(claim.ttl), claim.instead_of)
        return [owner.decode() for owner in self._run(_CLAIM, arguments)]

    def unclaim(self, claims: Sequence[tuple[str, str]]) -> None:
        self._run(_UNCLAIM, [self._unique, *(part for claim in claims for part in claim)])

    def tidy(self) -> None:
        """Redis forgets by itself."""


def _milliseconds(seconds: float) -> int:
    return max(1, round(seconds * 1000))
