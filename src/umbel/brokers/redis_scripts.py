"""The Lua scripts of the Redis broker's way of a task: publish, claim, settle, and the leases they hang on.

Each is one atomic step in the server. They judge time by the server's clock and read nothing but key names, tags and
numbers: envelopes pass through undecoded. Arguments are listed at the top of each script in their order.
"""

from __future__ import annotations

from umbel.brokers.redis_keys import SEPARATOR, UNIQUE
from umbel.brokers.redis_link import Script

GHOST_TIME = 900
"""Seconds for which a reaped consumer's landing places are still looked at."""

COUNT_TIME = 7 * 86400
"""Seconds without any failed delivery after which the counts of failed deliveries are forgotten."""

_DELAY = """
-- Who sleeps until the next due time is told when there is an earlier one.
local function delay(key, score, member)
  redis.call('ZADD', key, score, member)
  if redis.call('ZRANK', key, member) == 0 then redis.call('PUBLISH', key, score) end
end
"""

PUBLISH = Script(
    _DELAY
    + """
-- publisher key, its number of this publication, then groups: kind ('l' list, 'z' delayed, 'p' channel), key,
-- n, n arguments (values; scores and members; payloads). Returns 0 when this publication was here before.
local last = redis.call('GET', ARGV[1])
if last and tonumber(last) >= tonumber(ARGV[2]) then return 0 end
redis.call('SET', ARGV[1], ARGV[2], 'EX', 300)
local at = 3
while at < #ARGV do
  local kind, key, count = ARGV[at], ARGV[at + 1], tonumber(ARGV[at + 2])
  if kind == 'l' then
    redis.call('LPUSH', key, unpack(ARGV, at + 3, at + 2 + count))
  elseif kind == 'z' then
    for pair = at + 3, at + 2 + count, 2 do delay(key, ARGV[pair], ARGV[pair + 1]) end
  else
    redis.call('PUBLISH', key, ARGV[at + 3])
  end
  at = at + 3 + count
end
return 1
"""
)

_CLOCK = """
local time = redis.call('TIME')
local now = time[1] + time[2] / 1000000
"""

_COUNTS = f"""
local function count_failure(deliveries, raw)
  local count = redis.call('HINCRBY', deliveries, redis.sha1hex(raw), 1)
  redis.call('EXPIRE', deliveries, {COUNT_TIME})
  return count
end

local function bury(index, letters, unique, raw, step, reason, count, expires)
  local id = string.sub(redis.sha1hex(unique), 1, 12)
  local old = redis.call('ZRANGE', index, '-inf', now - expires, 'BYSCORE', 'LIMIT', 0, 1000)
  if #old > 0 then
    redis.call('ZREM', index, unpack(old))
    redis.call('HDEL', letters, unpack(old))
  end
  local letter = cjson.encode({{reason = reason, at = now, deliveries = count, step = step}})
  redis.call('ZADD', index, now, id)
  redis.call('HSET', letters, id, letter .. '\\n' .. raw)
  redis.call('EXPIRE', index, math.ceil(expires))
  redis.call('EXPIRE', letters, math.ceil(expires))
end
"""

_CLAIM = f"""
-- consumers, record, held, deliveries, consumer id, number of this call, first tag, limit, end of the claim part,
-- n landing triples (list index, landing key, list key), n delayed pairs (delayed key, base list), then pairs
-- (list index, list key) in the order of claiming.
local consumers, record, held, deliveries, id = ARGV[1], ARGV[2], ARGV[3], ARGV[4], ARGV[5]
local call, tag, left, stop = tonumber(ARGV[6]), tonumber(ARGV[7]), tonumber(ARGV[8]), tonumber(ARGV[9])
local landings = tonumber(ARGV[10])

local function give_landed_back()
  for at = 11, 10 + 3 * landings, 3 do
    while redis.call('LMOVE', ARGV[at + 1], ARGV[at + 2], 'RIGHT', 'RIGHT') do end
  end
end

-- Appends the earliest due time ('' if something was claimed), counts of failed deliveries, and pairs
-- (list index, envelopes).
local function claim(reply)
  local counts = {{}}
  local counting = redis.call('EXISTS', deliveries) == 1
  local due_at = #reply + 1
  reply[due_at], reply[due_at + 1] = '', counts

  local function hold(index, values)
    local fields = {{}}
    for number, value in ipairs(values) do
      fields[2 * number - 1], fields[2 * number] = index .. ':' .. tag, value
      tag = tag + 1
      if counting then
        local sha = redis.sha1hex(value)
        local count = redis.call('HGET', deliveries, sha)
        if count then
          counts[#counts + 1] = fields[2 * number - 1]
          counts[#counts + 1] = count
          counts[#counts + 1] = sha
        end
      end
    end
    redis.call('HSET', held, unpack(fields))
    left = left - #values
    reply[#reply + 1], reply[#reply + 2] = tonumber(index), values
  end

  for at = 11, 10 + 3 * landings, 3 do
    repeat
      local value
      if left > 0 then
        value = redis.call('RPOP', ARGV[at + 1])
        if value then hold(ARGV[at], {{value}}) end
      else
        value = redis.call('LMOVE', ARGV[at + 1], ARGV[at + 2], 'RIGHT', 'RIGHT')
      end
    until not value
  end

  local at = 11 + 3 * landings
  local delayed = tonumber(ARGV[at])
  for pair = at + 1, at + 2 * delayed, 2 do
    local due = redis.call('ZRANGE', ARGV[pair], '-inf', now, 'BYSCORE', 'LIMIT', 0, 500)
    if #due > 0 then
      redis.call('ZREM', ARGV[pair], unpack(due))
      for _, member in ipairs(due) do
        local step = string.sub(member, 1, 1)
        local list = ARGV[pair + 1]
        if step ~= '0' then list = list .. '{SEPARATOR}' .. step end
        redis.call('LPUSH', list, string.sub(member, {UNIQUE + 2}))
      end
    end
  end

  for pair = at + 2 * delayed + 1, stop - 1, 2 do
    while left > 0 do
      local wanted = math.min(left, 1000)
      local values = redis.call('RPOP', ARGV[pair + 1], wanted)
      if not values or #values == 0 then break end
      hold(ARGV[pair], values)
      if #values < wanted then break end
    end
    if left <= 0 then break end
  end

  if #reply == due_at + 1 then
    for pair = at + 1, at + 2 * delayed, 2 do
      local first = redis.call('ZRANGE', ARGV[pair], 0, 0, 'WITHSCORES')
      if first[2] and (reply[due_at] == '' or tonumber(first[2]) < reply[due_at]) then
        reply[due_at] = tonumber(first[2])
      end
    end
    if reply[due_at] ~= '' then reply[due_at] = tostring(math.max(0, reply[due_at] - now)) end
  end
  return reply
end
"""

CLAIM = Script(
    _CLOCK
    + _CLAIM
    + """
-- Returns 0 when the lease is lost, 2 when a later call has overtaken this one, else 1 and what claim appends.
if not redis.call('ZSCORE', consumers, id) then
  give_landed_back()
  return {0}
end
local fence = redis.call('HGET', record, 'claims')
if fence and call <= tonumber(fence) then return {2} end
return claim({1})
"""
)

GUARDED_STORE = """
-- A stored SUCCESS is recognised in JSON, pickle and MessagePack at the beginning, in YAML on its own line.
local function store(key, payload, milliseconds, guarded)
  if guarded == '1' then
    local old = redis.call('GET', key)
    if old and (string.find(string.sub(old, 1, 48), 'status[^%w_]+SUCCESS')
        or (string.sub(old, 1, 1) ~= '{' and string.find(old, '\\nstatus: SUCCESS', 1, true))) then return end
  end
  if milliseconds == '0' then
    redis.call('SET', key, payload)
  else
    redis.call('SET', key, payload, 'PX', milliseconds)
  end
  redis.call('PUBLISH', key, payload)
end
"""

SETTLE = Script(
    _CLOCK
    + _DELAY
    + _COUNTS
    + _CLAIM
    + GUARDED_STORE
    + f"""
-- After the claim part: milliseconds that successful results are kept; then settlements:
--   'a', tag                       acknowledge
--   'r', tag, key, payload         acknowledge, and store a successful result
--   'x', tag, action, five arguments of the action, SHA-1 of a counted delivery or '' or '1' (count it),
--        n results, n * (key, payload, milliseconds, guarded), m, m * (kind, key, score, value)
-- Returns 0 when the lease is lost, 2 when this call was here before, else 1, the positions of the settlements
-- whose hold was lost, and what claim appends.
if not redis.call('ZSCORE', consumers, id) then return {{0}} end
local last = redis.call('HGET', record, 'settles')
if last and call <= tonumber(last) then return {{2}} end

local ends = {{
  ack = function(raw) end,
  requeue = function(raw, list, delayed, step, seconds, tag)
    if tonumber(seconds) > 0 then
      local unique = string.sub(redis.sha1hex(id .. tag), 1, {UNIQUE})
      delay(delayed, now + seconds, step .. unique .. raw)
    else
      redis.call('RPUSH', list, raw)
    end
  end,
  bury = function(raw, index, letters, step, reason, tag, expires)
    local count = tonumber(redis.call('HGET', deliveries, redis.sha1hex(raw)) or '0')
    bury(index, letters, id .. tag, raw, step, reason, count, tonumber(expires))
  end,
  park = function(raw, index, list, step, task)
    redis.call('LPUSH', list, step .. raw)
    redis.call('HINCRBY', index, task, 1)
  end,
}}

local stale, position, at = {{}}, 0, stop + 1
while at <= #ARGV do
  local kind, tag_ = ARGV[at], ARGV[at + 1]
  if kind == 'a' then
    if redis.call('HDEL', held, tag_) == 0 then stale[#stale + 1] = position end
    at = at + 2
  elseif kind == 'r' then
    if redis.call('HDEL', held, tag_) == 0 then
      stale[#stale + 1] = position
    else
      store(ARGV[at + 2], ARGV[at + 3], ARGV[stop], '0')
    end
    at = at + 4
  else
    local action, counted = ARGV[at + 2], ARGV[at + 8]
    local raw = redis.call('HGET', held, tag_)
    local results = tonumber(ARGV[at + 9])
    local sent = at + 10 + 4 * results
    local messages = tonumber(ARGV[sent])
    if raw then
      redis.call('HDEL', held, tag_)
      for result = at + 10, sent - 4, 4 do
        store(ARGV[result], ARGV[result + 1], ARGV[result + 2], ARGV[result + 3])
      end
      for message = sent + 1, sent + 4 * messages, 4 do
        if ARGV[message] == 'z' then
          delay(ARGV[message + 1], ARGV[message + 2], ARGV[message + 3])
        elseif ARGV[message] == 'p' then
          redis.call('PUBLISH', ARGV[message + 1], ARGV[message + 3])
        else
          redis.call('LPUSH', ARGV[message + 1], ARGV[message + 3])
        end
      end
      if counted == '1' then count_failure(deliveries, raw) end
      local a, b, c, d, e = ARGV[at + 3], ARGV[at + 4], ARGV[at + 5], ARGV[at + 6], ARGV[at + 7]
      if action == 'requeue' then
        ends.requeue(raw, a, b, c, d, tag_)
      elseif action == 'bury' then
        ends.bury(raw, a, b, c, d, tag_, e)
      elseif action == 'park' then
        ends.park(raw, a, b, c, d)
      end
      if counted ~= '' and action ~= 'requeue' then redis.call('HDEL', deliveries, redis.sha1hex(raw)) end
    else
      stale[#stale + 1] = position
    end
    at = sent + 1 + 4 * messages
  end
  position = position + 1
end
redis.call('HSET', record, 'settles', ARGV[6], 'stale', table.concat(stale, ' '))
if left <= 0 then return {{1, stale, '', {{}}}} end
return claim({{1, stale}})
"""
)

_GIVE_BACK = f"""
-- Puts all that a consumer holds back to where it was; counted entries beyond the limit are dead-lettered.
local function give_back(prefix, id, counted, limit, expires)
  local record = prefix .. 'umbel.consumer.' .. id
  local held = prefix .. 'umbel.held.' .. id
  local deliveries = prefix .. 'umbel.deliveries'
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
    local count = counted and count_failure(deliveries, raw) or 0
    if count > limit then
      local reason = 'delivered ' .. count .. ' times, and each time the worker was lost'
      bury(prefix .. 'umbel.dead.' .. list[2], prefix .. 'umbel.dead_letters.' .. list[2], id .. entry[4], raw,
        tostring(list[3]), reason, count, expires)
      redis.call('HDEL', deliveries, redis.sha1hex(raw))
    else
      redis.call('RPUSH', list[1], raw)
    end
  end
  redis.call('DEL', held)
end

local function collect_landed(prefix, id)
  local lists = cjson.decode(redis.call('HGET', prefix .. 'umbel.consumer.' .. id, 'lists') or '[]')
  for index, list in ipairs(lists) do
    local landing = prefix .. 'umbel.landing.' .. id .. '.' .. (index - 1)
    while redis.call('LMOVE', landing, list[1], 'RIGHT', 'RIGHT') do end
  end
end

local function remember_ghost(prefix, id)
  redis.call('ZADD', prefix .. 'umbel.ghosts', now, id)
  redis.call('EXPIRE', prefix .. 'umbel.ghosts', {GHOST_TIME})
  redis.call('EXPIRE', prefix .. 'umbel.consumer.' .. id, {GHOST_TIME})
end
"""

BEGIN = Script(
    _CLOCK
    + """
-- prefix, consumer id, lease, lists (JSON), name
redis.call('HSET', ARGV[1] .. 'umbel.consumer.' .. ARGV[2], 'lists', ARGV[4], 'name', ARGV[5], 'lease', ARGV[3])
redis.call('ZADD', ARGV[1] .. 'umbel.consumers', now + ARGV[3], ARGV[2])
return 1
"""
)

RENEW = Script(
    _CLOCK
    + _COUNTS
    + _GIVE_BACK
    + f"""
-- prefix, consumer id, lease, delivery limit, seconds that dead letters are kept. Returns whether the lease is ours.
local prefix, id, lease, limit, expires = ARGV[1], ARGV[2], ARGV[3], tonumber(ARGV[4]), tonumber(ARGV[5])
local consumers, ghosts = prefix .. 'umbel.consumers', prefix .. 'umbel.ghosts'
local ours = redis.call('ZSCORE', consumers, id)
if ours then redis.call('ZADD', consumers, now + lease, id) end

local late = redis.call('ZRANGE', consumers, '-inf', now, 'BYSCORE', 'LIMIT', 0, 100)
if #late > 0 then
  -- While the server was down nobody could renew: after a restart every lease counts anew.
  local info = redis.pcall('INFO', 'server')
  local up = type(info) == 'string' and tonumber(string.match(info, 'uptime_in_seconds:(%d+)')) or math.huge
  for _, other in ipairs(late) do
    if up >= tonumber(redis.call('HGET', prefix .. 'umbel.consumer.' .. other, 'lease') or '0') then
      give_back(prefix, other, true, limit, expires)
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
    _CLOCK
    + _COUNTS
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
-- consumers, record, held, deliveries, consumer id, then calls whose answers were lost:
-- (kind 'claims' or 'settles', number of the call, first tag, end of its tags).
-- Makes sure that none of them can still run. Returns 0 when the lease is lost; else 1, for each call whether it was
-- done and its stale positions, and all envelopes with the tags of these calls: tag, envelope, count, SHA-1.
if not redis.call('ZSCORE', ARGV[1], ARGV[5]) then return {0} end
local record, held, deliveries = ARGV[2], ARGV[3], ARGV[4]
local calls, entries = {}, {}
for at = 6, #ARGV, 4 do
  local last = redis.call('HGET', record, ARGV[at])
  local done = last and tonumber(last) >= tonumber(ARGV[at + 1])
  calls[#calls + 1] = done and 1 or 0
  calls[#calls + 1] = done and ARGV[at] == 'settles' and redis.call('HGET', record, 'stale') or ''
  if not done then redis.call('HSET', record, ARGV[at], ARGV[at + 1]) end
end
local found = {}
for _, tag in ipairs(redis.call('HKEYS', held)) do
  local number = tonumber(string.match(tag, ':(%d+)'))
  for at = 6, #ARGV, 4 do
    if number >= tonumber(ARGV[at + 2]) and number < tonumber(ARGV[at + 3]) then
      found[#found + 1] = {number, tag}
      break
    end
  end
end
table.sort(found, function(one, other) return one[1] < other[1] end)
for _, entry in ipairs(found) do
  local raw = redis.call('HGET', held, entry[2])
  local sha = redis.sha1hex(raw)
  entries[#entries + 1] = entry[2]
  entries[#entries + 1] = raw
  entries[#entries + 1] = redis.call('HGET', deliveries, sha) or '0'
  entries[#entries + 1] = sha
end
return {1, calls, entries}
""")
