"""The Lua scripts on which leases hang: begin, renew and end them, reap others', recover what an answer lost."""

from __future__ import annotations

from umbel.brokers.redis.link import Script
from umbel.brokers.redis.scripts import CLOCK, COUNTS

GHOST_TIME = 900
"""Seconds for which a reaped consumer's landing places are still looked at."""

_GIVE_BACK = f"""
-- Puts all that a consumer holds back to where it was; counted entries beyond the limit are dead-lettered.
local function give_back(prefix, id, counted, limit, expires)
  local record = prefix .. 'umbel.consumer.' .. id
  local held = prefix .. 'umbel.held.' .. id
  local lists = cjson.decode(redis.call('HGET', record, 'lists') or '[]')
  local flat = redis.call('HGETALL', held)
  local entries = {{}}
  for at = 1, #flat, 2 do
    local index, number = string.match(flat[at], '(%d+):(%d+)')
    entries[#entries + 1] = {{tonumber(number), tonumber(index) + 1, flat[at + 1], flat[at]}}
  end
  table.sort(entries, function(one, other) return one[1] > other[1] end)
  for _, entry in ipairs(entries) do
    local list, raw = lists[entry[2]], entry[3]
    if counted then raw = ' ' .. raw end
    if counted and failures(raw) > limit then
      local reason = 'delivered ' .. failures(raw) .. ' times, and each time the worker was lost'
      bury(prefix .. 'umbel.dead.' .. list[2], prefix .. 'umbel.dead_letters.' .. list[2], id .. entry[4], raw,
        tostring(list[3]), reason, expires)
    else
      redis.call('RPUSH', list[1], raw)
    end
  end
  redis.call('DEL', held)
end

-- What has landed when a consumer is reaped may have been run without being adopted, so it counts as failed.
local function collect_landed(prefix, id, counted)
  local lists = cjson.decode(redis.call('HGET', prefix .. 'umbel.consumer.' .. id, 'lists') or '[]')
  for index, list in ipairs(lists) do
    local landing = prefix .. 'umbel.landing.' .. id .. '.' .. (index - 1)
    for _, raw in ipairs(counted and redis.call('LRANGE', landing, 0, -1) or {{}}) do
      redis.call('LREM', landing, -1, raw)
      redis.call('RPUSH', list[1], ' ' .. raw)
    end
    while redis.call('LMOVE', landing, list[1], 'RIGHT', 'RIGHT') do end
  end
end

local function remember_ghost(prefix, id)
  redis.call('HDEL', prefix .. 'umbel.consumer.' .. id, 'alive')
  redis.call('ZADD', prefix .. 'umbel.ghosts', now, id)
  redis.call('EXPIRE', prefix .. 'umbel.ghosts', {GHOST_TIME})
  redis.call('EXPIRE', prefix .. 'umbel.consumer.' .. id, {GHOST_TIME})
end
"""

BEGIN = Script(
    CLOCK
    + """
-- prefix, consumer id, lease, lists (JSON), name
redis.call('HSET', ARGV[1] .. 'umbel.consumer.' .. ARGV[2], 'lists', ARGV[4], 'name', ARGV[5], 'lease', ARGV[3],
  'alive', '1')
redis.call('ZADD', ARGV[1] .. 'umbel.consumers', now + ARGV[3], ARGV[2])
return 1
"""
)

RENEW = Script(
    CLOCK
    + COUNTS
    + _GIVE_BACK
    + f"""
-- prefix, consumer id, lease, delivery limit, seconds that dead letters are kept. Returns whether the lease is ours.
local prefix, id, lease, limit, expires = ARGV[1], ARGV[2], ARGV[3], tonumber(ARGV[4]), tonumber(ARGV[5])
local consumers, ghosts = prefix .. 'umbel.consumers', prefix .. 'umbel.ghosts'
local ours = redis.call('ZSCORE', consumers, id)
if ours then redis.call('ZADD', consumers, now + lease, id) end

local late = redis.call('ZRANGE', consumers, '-inf', now, 'BYSCORE', 'LIMIT', 0, 100)
if #late > 0 then
  -- While the server was down nobody could renew: after a restart every lease counts anew. Its uptime is in whole
  -- seconds, and up to one too many.
  local info = redis.pcall('INFO', 'server')
  local up = type(info) == 'string' and tonumber(string.match(info, 'uptime_in_seconds:(%d+)')) or math.huge
  for _, other in ipairs(late) do
    if up > tonumber(redis.call('HGET', prefix .. 'umbel.consumer.' .. other, 'lease') or '0') then
      give_back(prefix, other, true, limit, expires)
      collect_landed(prefix, other, true)
      redis.call('ZREM', consumers, other)
      remember_ghost(prefix, other)
    end
  end
end

-- A wait that was on its way when its consumer was reaped may have landed something since.
for _, ghost in ipairs(redis.call('ZRANGE', ghosts, 0, -1)) do collect_landed(prefix, ghost) end
redis.call('ZREMRANGEBYSCORE', ghosts, '-inf', now - {GHOST_TIME})
return ours and 1 or 0
"""
)

END = Script(
    CLOCK
    + COUNTS
    + _GIVE_BACK
    + """
-- prefix, consumer id, '1' when a wait may still be on its way. Returns whether the lease was ours.
local prefix, id = ARGV[1], ARGV[2]
if redis.call('ZREM', prefix .. 'umbel.consumers', id) == 0 then return 0 end
give_back(prefix, id, false, 0, 0)
collect_landed(prefix, id)
if ARGV[3] == '1' then
  remember_ghost(prefix, id)
else
  redis.call('DEL', prefix .. 'umbel.consumer.' .. id)
end
return 1
"""
)

RECOVER = Script("""
-- consumers, record, held, consumer id, then calls whose answers were lost:
-- (kind 'claims' or 'settles', number of the call, first tag, end of its tags).
-- Makes sure that none of them can still run; may be repeated. Returns 0 when the lease is lost; else 1, for each
-- call whether it was done and its stale positions, and all envelopes with the tags of these calls: tag, envelope.
if not redis.call('ZSCORE', ARGV[1], ARGV[4]) then return {0} end
local record, held = ARGV[2], ARGV[3]
local calls, entries = {}, {}
for at = 5, #ARGV, 4 do
  local last = redis.call('HGET', record, ARGV[at])
  local undone = ARGV[at] == 'settles' and redis.call('HGET', record, 'undone') == ARGV[at + 1]
  local done = last and tonumber(last) >= tonumber(ARGV[at + 1]) and not undone
  calls[#calls + 1] = done and 1 or 0
  calls[#calls + 1] = done and ARGV[at] == 'settles' and redis.call('HGET', record, 'stale') or ''
  if not done then
    redis.call('HSET', record, ARGV[at], ARGV[at + 1])
    if ARGV[at] == 'settles' then redis.call('HSET', record, 'undone', ARGV[at + 1]) end
  end
end
local found = {}
for _, tag in ipairs(redis.call('HKEYS', held)) do
  local number = tonumber(string.match(tag, ':(%d+)'))
  for at = 5, #ARGV, 4 do
    if number >= tonumber(ARGV[at + 2]) and number < tonumber(ARGV[at + 3]) then
      found[#found + 1] = {number, tag}
      break
    end
  end
end
table.sort(found, function(one, other) return one[1] < other[1] end)
for _, entry in ipairs(found) do
  entries[#entries + 1] = entry[2]
  entries[#entries + 1] = redis.call('HGET', held, entry[2])
end
return {1, calls, entries}
""")
