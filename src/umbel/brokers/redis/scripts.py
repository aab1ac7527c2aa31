"""The Lua scripts of a message's way through Redis: publish, claim, adopt, settle.

Each is one atomic step in the server. They judge time by the server's clock and read nothing but key names, tags and
numbers: envelopes pass through undecoded. Arguments are listed at the top of each script in their order.
"""

from __future__ import annotations

from umbel.brokers.redis.keys import RETURNED, SEPARATOR, UNIQUE
from umbel.brokers.redis.link import Script

REMEMBERED = 300
"""Seconds for which the server knows the last publication of each publisher."""

_DELAY = """
-- Who sleeps until the next due time is told when there is an earlier one.
local function delay(key, score, member)
  redis.call('ZADD', key, score, member)
  if redis.call('ZRANK', key, member) == 0 then redis.call('PUBLISH', key, score) end
end
"""

_ONCE = f"""
local known = redis.call('SET', ARGV[1], ARGV[2], 'EX', '{REMEMBERED}', 'GET')
local last, number = tonumber(known or 0), tonumber(ARGV[2])
if last >= number or (last ~= number - 1 and ARGV[2] ~= ARGV[3]) then
  if known then
    redis.call('SET', ARGV[1], known, 'EX', {REMEMBERED})
  else
    redis.call('DEL', ARGV[1])
  end
  return last >= number and 0 or 2
end
"""
"""Publications begin with: publisher key, number of this call, number of the first call of its publication. They
return 0 when this call was here before, 2 when the one before it was not."""

PUSH = Script(
    _ONCE
    + """
-- then list key, values. What every plain delay() calls: no more than it needs.
redis.call('LPUSH', ARGV[4], unpack(ARGV, 5))
return 1
"""
)

PUBLISH = Script(
    _DELAY
    + _ONCE
    + """
-- then kind ('h' list and a hint, 'z' delayed, 'p' channel), key, and a channel and values; scores and members; one
-- payload.
local kind, key = ARGV[4], ARGV[5]
if kind == 'h' then
  redis.call('LPUSH', key, unpack(ARGV, 7))
  redis.call('PUBLISH', ARGV[6], 'pushed')
elseif kind == 'z' then
  for pair = 6, #ARGV, 2 do delay(key, ARGV[pair], ARGV[pair + 1]) end
else
  redis.call('PUBLISH', key, ARGV[6])
end
return 1
"""
)

CLOCK = """
local time = redis.call('TIME')
local now = time[1] + time[2] / 1000000
"""

COUNTS = """
-- A failed delivery is counted by a space in front of the envelope, which is JSON to every reader all the same.
local function failures(raw) return #string.match(raw, '^ *') end

local function bury(index, letters, unique, raw, step, reason, expires)
  local id = string.sub(redis.sha1hex(unique), 1, 12)
  local old = redis.call('ZRANGE', index, '-inf', now - expires, 'BYSCORE', 'LIMIT', 0, 1000)
  if #old > 0 then
    redis.call('ZREM', index, unpack(old))
    redis.call('HDEL', letters, unpack(old))
  end
  local count = failures(raw)
  local letter = cjson.encode({reason = reason, at = now, deliveries = count, step = step})
  redis.call('ZADD', index, now, id)
  redis.call('HSET', letters, id, letter .. '\\n' .. string.sub(raw, count + 1))
  redis.call('EXPIRE', index, math.ceil(expires))
  redis.call('EXPIRE', letters, math.ceil(expires))
end
"""

_CLAIM_PART = """
-- consumers, record, held, consumer id, number of this call, first tag, limit, end of the claim part,
-- n landing triples (list index, landing key, list key), n delayed pairs (delayed key, base list), then pairs
-- (list index, list key) in the order of claiming.
local consumers, record, held, id = ARGV[1], ARGV[2], ARGV[3], ARGV[4]
local call, tag, left, stop = tonumber(ARGV[5]), tonumber(ARGV[6]), tonumber(ARGV[7]), tonumber(ARGV[8])
local landings = tonumber(ARGV[9])
"""

_CLAIM = f"""
-- Appends the earliest due time ('' if something was claimed), and pairs (list index, envelopes).
local function claim(reply)
  local due_at = #reply + 1
  reply[due_at] = ''

  local function hold(index, values)
    local fields = {{}}
    for number, value in ipairs(values) do
      fields[2 * number - 1], fields[2 * number] = index .. ':' .. tag, value
      tag = tag + 1
    end
    redis.call('HSET', held, unpack(fields))
    left = left - #values
    reply[#reply + 1], reply[#reply + 2] = tonumber(index), values
  end

  for at = 10, 9 + 3 * landings, 3 do
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

  local at = 10 + 3 * landings
  local delayed = tonumber(ARGV[at])
  for pair = at + 1, at + 2 * delayed, 2 do
    local due = redis.call('ZRANGE', ARGV[pair], '-inf', now, 'BYSCORE', 'LIMIT', 0, 500)
    if #due > 0 then
      redis.call('ZREM', ARGV[pair], unpack(due))
      local function push(command, member)
        local step = string.sub(member, 1, 1)
        local list = ARGV[pair + 1]
        if step ~= '0' then list = list .. '{SEPARATOR}' .. step end
        redis.call(command, list, string.sub(member, {UNIQUE + 2}))
      end
      local returned = {{}}
      for _, member in ipairs(due) do
        if string.sub(member, 2, 2) == '{RETURNED}' then
          returned[#returned + 1] = member
        else
          push('LPUSH', member)
        end
      end
      for number = #returned, 1, -1 do push('RPUSH', returned[number]) end
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

  if #reply == due_at then
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
    CLOCK
    + _CLAIM_PART
    + _CLAIM
    + """
-- Returns 0 when the lease is lost, 2 when a later call has overtaken this one, else 1 and what claim appends.
local known = redis.call('HMGET', record, 'alive', 'claims')
if not known[1] then
  for at = 10, 9 + 3 * landings, 3 do
    while redis.call('LMOVE', ARGV[at + 1], ARGV[at + 2], 'RIGHT', 'RIGHT') do end
  end
  return {0}
end
if known[2] and call <= tonumber(known[2]) then return {2} end
return claim({1})
"""
)

_LAND = """
-- Takes what has landed with this SHA-1 out of its landing place; nil when it is not there.
local function land(landing, sha)
  local first = redis.call('RPOP', landing)
  if not first or redis.sha1hex(first) == sha then return first or nil end
  redis.call('RPUSH', landing, first)
  for _, value in ipairs(redis.call('LRANGE', landing, 0, -1)) do
    if redis.sha1hex(value) == sha then
      redis.call('LREM', landing, -1, value)
      return value
    end
  end
end
"""

ADOPT = Script(
    _LAND
    + """
-- consumers, held, consumer id, n, n * (tag, landing key, SHA-1), then pairs (landing key, list key).
-- Holds what landed under the tags by which it was delivered already, and gives all else that landed there back: a wait
-- whose connection broke may have landed something else. May be repeated.
local at = 5 + 3 * tonumber(ARGV[4])
if redis.call('ZSCORE', ARGV[1], ARGV[3]) then
  for part = 5, at - 1, 3 do
    if redis.call('HEXISTS', ARGV[2], ARGV[part]) == 0 then
      local value = land(ARGV[part + 1], ARGV[part + 2])
      if value then redis.call('HSET', ARGV[2], ARGV[part], value) end
    end
  end
end
for pair = at, #ARGV, 2 do
  while redis.call('LMOVE', ARGV[pair], ARGV[pair + 1], 'RIGHT', 'RIGHT') do end
end
return 1
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

CHORD_PART = """
-- What is known of chords within this call, by their base: ``done``, ``total``, how many have ``ended``, and whether
-- the lifetime of their keys was looked at. A call may bring the ends of hundreds of members.
local chords = {}

-- Notes the end of a chord's member under Celery's keys; whether the chord is complete. With once, only the first time.
-- 0 as the size: the sender has stored it.
local function add_part(base, mark, index, payload, size, added, milliseconds, once)
  local chord = chords[base]
  if not chord then
    chord = {done = redis.call('GET', base .. '.c') == 'done'}
    chords[base] = chord
  end
  if chord.done then return false end
  if redis.call('SADD', base .. '.d', mark) == 1 then
    local new = redis.call('ZADD', base .. '.j', index, payload)
    if chord.ended then chord.ended = chord.ended + new end
    if added ~= '0' then redis.call('INCRBY', base .. '.t', added) end
    if milliseconds ~= '0' and (added ~= '0' or not chord.dated) then
      chord.dated = true
      if added ~= '0' or redis.call('PTTL', base .. '.d') < 0.9 * milliseconds then
        for _, end_ in ipairs({'.j', '.d', '.t', '.s'}) do redis.call('PEXPIRE', base .. end_, milliseconds) end
      end
    end
  elseif once then
    return false
  end
  chord.total = chord.total or (size == '0' and redis.call('GET', base .. '.s') or size)
  if chord.total == '0' then
    chord.total = nil
    return false
  end
  chord.ended = chord.ended or redis.call('ZCARD', base .. '.j')
  local ended, total = chord.ended, tonumber(chord.total)
  return ended >= total and ended >= total + tonumber(redis.call('GET', base .. '.t') or 0)
end

-- Whether claimant may finish a chord: nobody else does.
local function claim_chord(base, claimant, milliseconds)
  local lifetime = milliseconds
  if lifetime == '0' then lifetime = '86400000' end
  if redis.call('SET', base .. '.c', claimant, 'NX', 'PX', lifetime) then return true end
  return redis.call('GET', base .. '.c') == claimant
end
"""

_SPECIAL = (
    """
  local now
  local function ask_time()
    local time = redis.call('TIME')
    now = time[1] + time[2] / 1000000
  end
"""
    + _DELAY
    + COUNTS
    + GUARDED_STORE
    + CHORD_PART
    + f"""
  local ends = {{
    requeue = function(raw, list, delayed, step, seconds, tag)
      if tonumber(seconds) > 0 then
        ask_time()
        local unique = '{RETURNED}' .. string.sub(redis.sha1hex(id .. tag), 1, {UNIQUE - 1})
        delay(delayed, now + seconds, step .. unique .. raw)
      else
        redis.call('RPUSH', list, raw)
      end
    end,
    bury = function(raw, index, letters, step, reason, tag, expires)
      ask_time()
      bury(index, letters, id .. tag, raw, step, reason, tonumber(expires))
    end,
    park = function(raw, index, list, step, task)
      redis.call('LPUSH', list, step .. raw)
      redis.call('HINCRBY', index, task, 1)
    end,
  }}

  local function send(kind, key, score, value)
    if kind == 'z' then
      delay(key, score, value)
    elseif kind == 'p' then
      redis.call('PUBLISH', key, value)
    elseif kind == 'k' then
      redis.call('HSET', held, key, value)
    else
      redis.call('LPUSH', key, value)
    end
  end

  -- Notes the part whose arguments begin at first, and sends the message when its chord is complete by it.
  local function note(first, kind, key, score, value)
    local base, kept, claimant = ARGV[first], ARGV[first + 6], ARGV[first + 7]
    local size, added = ARGV[first + 4], ARGV[first + 5]
    if add_part(base, ARGV[first + 1], ARGV[first + 2], ARGV[first + 3], size, added, kept, true)
        and claim_chord(base, claimant, kept) then
      send(kind, key, score, value)
    end
  end

  local finishing = {{}}

  -- Each settles what stands at ARGV[at]: where the next one begins, and whether its hold was good.
  local function member(at, tag)
    local claimant, rest = ARGV[at + 11], at + 13
    if ARGV[at + 12] == '1' then
      finishing[claimant] = rest
      rest = rest + 4
    end
    if not release(tag) then return rest, false end
    store(ARGV[at + 2], ARGV[at + 3], ARGV[stop], '0')
    local given = finishing[claimant]
    note(at + 4, ARGV[given], ARGV[given + 1], ARGV[given + 2], ARGV[given + 3])
    return rest, true
  end

  local function whole(at, tag)
    local action, counted = ARGV[at + 2], ARGV[at + 8]
    local raw = action == 'ack' or adopted[tag] or redis.call('HGET', held, tag)
    local results = tonumber(ARGV[at + 9])
    local sent = at + 10 + 4 * results
    local messages = tonumber(ARGV[sent])
    local first = sent + 1 + 4 * messages
    local rest = first + 1 + 12 * tonumber(ARGV[first])
    if not raw or not release(tag) then return rest, false end
    for result = at + 10, sent - 4, 4 do
      store(ARGV[result], ARGV[result + 1], ARGV[result + 2], ARGV[result + 3])
    end
    for message = sent + 1, sent + 4 * messages, 4 do
      send(ARGV[message], ARGV[message + 1], ARGV[message + 2], ARGV[message + 3])
    end
    for part = first + 1, rest - 12, 12 do
      note(part, ARGV[part + 8], ARGV[part + 9], ARGV[part + 10], ARGV[part + 11])
    end
    if counted == '1' and action ~= 'ack' then raw = ' ' .. raw end
    local a, b, c, d, e = ARGV[at + 3], ARGV[at + 4], ARGV[at + 5], ARGV[at + 6], ARGV[at + 7]
    if action == 'requeue' then
      ends.requeue(raw, a, b, c, d, tag)
    elseif action == 'bury' then
      ends.bury(raw, a, b, c, d, tag, e)
    elseif action == 'park' then
      ends.park(raw, a, b, c, d)
    end
    return rest, true
  end

  return {{p = member, x = whole}}
"""
)

SETTLE = Script(
    _CLAIM_PART
    + _LAND
    + f"""
-- After the claim part, which ends after the number of landings where nothing is to be claimed: milliseconds that
-- successful results are kept; n, '1' if some may be adopted already, n * (tag, landing key, SHA-1) to adopt before;
-- then settlements:
--   'a', tag                       acknowledge
--   'r', tag, key, payload         acknowledge, and store a successful result
--   'p', tag, key, payload, eight arguments of the part as below, '1', kind, key, score, value or '0'
--                                  the same, for a member of a chord; '0': its message was given with a former one
--   'k', tag, key, payload, tag and value of a message
--                                  acknowledge, store a successful result, and hold a message that is new
--   'x', tag, action, five arguments of the action, '1' to count the delivery as failed,
--        n results, n * (key, payload, milliseconds, guarded), m, m * (kind, key, score, value), of kind 'k': a tag
--        as the key; p, p * (chord, mark, index, payload, size, added, milliseconds, claimant, kind, key, score, value)
-- Returns 0 when the lease is lost, 2 when this call was here before, else 1, the positions of the settlements
-- whose hold was lost, and what claim appends.
-- A worker that has little to do calls this for each task: functions are made only where they are needed.
local known = redis.call('HMGET', record, 'alive', 'settles')
if not known[1] then return {{0}} end
if known[2] and call <= tonumber(known[2]) then return {{2}} end

local adopted, at, again = {{}}, stop + 3, ARGV[stop + 2] == '1'
for _ = 1, tonumber(ARGV[stop + 1]) do
  if not again or redis.call('HEXISTS', held, ARGV[at]) == 0 then
    adopted[ARGV[at]] = land(ARGV[at + 1], ARGV[at + 2])
  end
  at = at + 3
end

local function release(tag)
  if adopted[tag] then
    adopted[tag] = nil
    return true
  end
  return redis.call('HDEL', held, tag) == 1
end

local kept = ARGV[stop]
local function store_success(key, payload)
  if kept == '0' then
    redis.call('SET', key, payload)
  else
    redis.call('SET', key, payload, 'PX', kept)
  end
  redis.call('PUBLISH', key, payload)
end

local function special()
{_SPECIAL}
end

local specials
local stale, position, count = {{}}, 0, #ARGV
while at <= count do
  local kind, tag_, good = ARGV[at], ARGV[at + 1], true
  if kind == 'a' then
    good = release(tag_)
    at = at + 2
  elseif kind == 'r' then
    good = release(tag_)
    if good then store_success(ARGV[at + 2], ARGV[at + 3]) end
    at = at + 4
  elseif kind == 'k' then
    good = release(tag_)
    if good then
      store_success(ARGV[at + 2], ARGV[at + 3])
      redis.call('HSET', held, ARGV[at + 4], ARGV[at + 5])
    end
    at = at + 6
  else
    specials = specials or special()
    at, good = specials[kind](at, tag_)
  end
  if not good then stale[#stale + 1] = position end
  position = position + 1
end
for tag_, value in pairs(adopted) do redis.call('HSET', held, tag_, value) end
redis.call('HSET', record, 'settles', ARGV[5], 'stale', table.concat(stale, ' '))
if left <= 0 then return {{1, stale, ''}} end
"""
    + CLOCK
    + _CLAIM
    + """
return claim({1, stale})
"""
)
