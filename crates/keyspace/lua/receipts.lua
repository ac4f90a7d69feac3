-- tidegate_receipt: stores how far users have acknowledged a scope.
--
-- KEYS[1] receipts  PREFIX:{TENANT/FAMILY:ID}:receipts
-- KEYS[2] times     PREFIX:{TENANT/FAMILY:ID}:receipts:times
-- ARGV    user, position [, user, position …]   1 to RECEIPTS_PER_CALL_MAX pairs
-- →       the number of users whose position has increased
--
-- Positions are compared as two numbers: a late write does not replace a higher position that was written since.
--
-- tidegate_receipts: how far users have acknowledged a scope. Writes nothing (FCALL_RO).
--
-- KEYS[1], KEYS[2]  as above
-- KEYS[3] metadata  PREFIX:{TENANT/FAMILY:ID}:meta
-- ARGV    most users, user [, user …]   without a user: the users whose receipts changed least recently
-- →       { top or '' if the scope has not begun, { "generation-top" of earlier generations, oldest first },
--           { user, position, time ms, … } }

local RECEIPTS_PER_CALL_MAX = 500
-- Most receipts of one scope; those that changed least recently are removed.
local RECEIPTS_MAX = 100000
local RECEIPTS_ANSWER_MAX = 10000
local RECEIPTS_KEY = '^(' .. NAME .. '+:{' .. NAME .. '+/(' .. NAME .. '+):?' .. NAME .. '*}):receipts$'

-- Returns the channel of the scope and the settings of its family, or nil and an error text.
local function receipts_of(keys)
  local channel, name = match(keys[1] or '', RECEIPTS_KEY)
  if not channel or keys[2] ~= channel .. ':receipts:times' then
    return nil, 'ERR the first keys are PREFIX:{TENANT/FAMILY:ID}:receipts and PREFIX:{TENANT/FAMILY:ID}:receipts:times'
  end
  local family = FAMILIES[name]
  if not family then
    return nil, 'ERR there is no channel family "' .. name .. '"; the gateways know ' .. FAMILY_NAMES
  end
  return channel, family
end

local function is_further(position, than)
  local generation, offset = match(position, '^(%d+)-(%d+)$')
  local other_generation, other_offset = match(than, '^(%d+)-(%d+) ')
  if not (whole(other_generation) and whole(other_offset)) then
    return true -- another program has written it
  end
  generation, other_generation = tonumber(generation), tonumber(other_generation)
  if generation ~= other_generation then
    return generation > other_generation
  end
  return tonumber(offset) > tonumber(other_offset)
end

-- Removes receipts that have not changed since `before`, and the oldest ones above the limit.
local function forget_receipts(receipts, times, before)
  local gone = call('ZRANGEBYSCORE', times, '-inf', '(' .. decimal(before), 'LIMIT', 0, 1000)
  local over = call('ZCARD', times) - #gone - RECEIPTS_MAX
  if over > 0 then
    gone = call('ZRANGE', times, 0, #gone + min(over, 1000) - 1)
  end
  for i = 1, #gone do
    call('HDEL', receipts, gone[i])
    call('ZREM', times, gone[i])
  end
end

register('tidegate_receipt', {}, function(keys, args)
  local channel, family = receipts_of(keys)
  if not channel or #keys ~= 2 then
    return error_reply(channel and 'ERR two keys are needed' or family)
  end
  if #args == 0 or #args % 2 == 1 or #args > 2 * RECEIPTS_PER_CALL_MAX then
    return error_reply('ERR arguments are USER POSITION pairs, 1 to ' .. RECEIPTS_PER_CALL_MAX .. ' of them')
  end
  for i = 1, #args, 2 do
    if not find(args[i], '^' .. NAME .. '+$') or not find(args[i + 1], '^%d+%-%d+$') then
      return error_reply('ERR arguments are USER POSITION pairs: a name, and a position such as 7-42')
    end
  end
  local receipts, times, now, moved = keys[1], keys[2], clock(), 0
  keep_type(receipts, 'hash')
  keep_type(times, 'zset')
  local stamp, kept_ms = decimal(now), family.ttl + family.step + META_GRACE_MS
  for i = 1, #args, 2 do
    local user, position = args[i], args[i + 1]
    local held = call('HGET', receipts, user)
    if not held or is_further(position, held) then
      call('HSET', receipts, user, position .. ' ' .. stamp)
      call('ZADD', times, stamp, user)
      moved = moved + 1
    end
  end
  if moved > 0 then
    forget_receipts(receipts, times, now - kept_ms)
    call('PEXPIRE', receipts, decimal(kept_ms))
    call('PEXPIRE', times, decimal(kept_ms))
  end
  return moved
end)

register('tidegate_receipts', { 'no-writes', 'allow-oom' }, function(keys, args)
  local channel, family = receipts_of(keys)
  if not channel or #keys ~= 3 or keys[3] ~= channel .. ':meta' then
    return error_reply(channel and 'ERR the third key belongs to the first: it is ' .. channel .. ':meta' or family)
  end
  local most = tonumber(args[1])
  if not most or most < 1 or #args > RECEIPTS_PER_CALL_MAX then
    return error_reply('ERR arguments are MOST [USER …]')
  end
  local users, found = {}, {}
  for i = 2, #args do
    users[i - 1] = args[i]
  end
  if #users == 0 then
    users = read_or({}, 'ZRANGE', keys[2], 0, min(most, RECEIPTS_ANSWER_MAX) - 1)
  end
  for i = 1, #users do
    local position, stored = match(read_or(false, 'HGET', keys[1], users[i]) or '', '^(%S+) (%d+)$')
    if position and is_position(position) and whole(stored) then
      local n = #found
      found[n + 1], found[n + 2], found[n + 3] = users[i], position, stored
    end
  end
  local seen, bad = read_meta(keys[3], 'e')
  if bad then
    return error_reply(bad)
  end
  local earlier = {}
  for position in gmatch(seen[3] or '', '%d+%-%d+') do
    earlier[#earlier + 1] = is_position(position) and position or nil
  end
  return { seen[1] and seen[1] .. '-' .. seen[2] or '', earlier, found }
end)
