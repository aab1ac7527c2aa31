"""Revocations in Redis: one sorted set, whose scores are the server's microseconds when they were noted.

Members are records with the millisecond in front when they cease to hold. The set expires with the last of them.
"""

from __future__ import annotations

from collections.abc import Sequence

from umbel.brokers.redis.link import Links, Script
from umbel.revocations import Noted, Revocation, Revocations, encode_record, read_records

_NOTE = Script("""
-- key, milliseconds, records
local key, ttl, time = ARGV[1], tonumber(ARGV[2]), redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
while true do
  local oldest = redis.call('ZRANGE', key, 0, 0)[1]
  if not oldest or tonumber(string.match(oldest, '^%d+')) > now then break end
  redis.call('ZREM', key, oldest)
end
local score = time[1] * 1000000 + time[2]
local latest = redis.call('ZRANGE', key, -1, -1, 'WITHSCORES')[2]
if latest and tonumber(latest) >= score then score = tonumber(latest) + 1 end
local ends = string.format('%.0f ', now + ttl)
for at = 3, #ARGV do
  redis.call('ZADD', key, string.format('%.0f', score), ends .. ARGV[at])
  score = score + 1
end
if redis.call('PTTL', key) < ttl then redis.call('PEXPIRE', key, ttl) end
""")

_SINCE = Script("""
-- key, mark
local key, mark, time = ARGV[1], tonumber(ARGV[2]), redis.call('TIME')
local latest = redis.call('ZRANGE', key, -1, -1, 'WITHSCORES')[2] or '0'
if tonumber(latest) < mark then mark = 0 end
local records = {}
if tonumber(latest) > mark then
  records = redis.call('ZRANGE', key, '(' .. string.format('%.0f', mark), '+inf', 'BYSCORE')
end
return {string.format('%.0f', time[1] * 1000 + math.floor(time[2] / 1000)), latest, records}
""")


class RedisRevocations(Revocations):
    """See :class:`Revocations`."""

    def __init__(self, links: Links, key: str) -> None:
        self._links = links
        self._key = key

    def note(self, records: Sequence[Revocation], seconds: float) -> None:
        self._links.run(_NOTE, (self._key, max(1, int(seconds * 1000)), *map(encode_record, records)))

    def since(self, mark: float) -> tuple[float, list[Noted]]:
        now, latest, members = self._links.run(_SINCE, (self._key, f"{mark:.0f}"))
        parts = [member.partition(b" ") for member in members]
        stored = [(record, (int(ends) - int(now)) / 1000) for ends, _, record in parts]
        return float(latest), read_records(each for each in stored if each[1] > 0)
