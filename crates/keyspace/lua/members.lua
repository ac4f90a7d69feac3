-- Who is in which scope: what joining and leaving mean. The functions are in presence.lua; registry.lua ends whole lives.
--
-- All keys share the hash tag {registry}; their names are made from that of the peers. A member is a user, held by the
-- lives of the instances to which it is connected:
--   members:TENANT/FAMILY:ID      hash of user → "since(ms) life,life,… info"; "-" for the lives: it has gone, and has
--                                 until it is due to come back
--   present:INSTANCE:INCARNATION  set of "TENANT/FAMILY:ID user" that this life holds
--   ghosts:INSTANCE:INCARNATION   the same of a life that has ended, or writes all anew
--   leaving                       sorted set of "TENANT/FAMILY:ID user", and of lives with ghosts, by when they are due (ms)
--   presence                      stream of what changed, an entry a call: '+' "scope user since count info",
--                                 '-' "scope user now count", and 'p', the id of the entry before it
--
-- Whoever takes a member out writes the entry in the same step: it is told once, by whoever was first.

-- Members that one call lets leave at most: about 3 ms of Redis' time.
local SWEPT_MAX = 256
-- Readers wait for entries and are behind by few; who is further behind reads the lists anew.
local PRESENCE_LOG_MAX = 256

local function base_of(peers)
  return match(peers, '^(.*)peers$')
end

local function read_member(base, scope, user)
  local text = call('HGET', base .. 'members:' .. scope, user)
  if text then
    return match(text, '^(%d+) (%S+) (.*)$')
  end
end

local function without(lives, life)
  local left = {}
  for other in gmatch(lives, '[^,]+') do
    if other ~= life then
      left[#left + 1] = other
    end
  end
  return #left > 0 and concat(left, ',') or '-'
end

local function enter_member(base, log, life, scope, user, info, now)
  local key, entry = base .. 'members:' .. scope, scope .. ' ' .. user
  call('SADD', base .. 'present:' .. life, entry)
  local since, lives, kept = read_member(base, scope, user)
  if not since then
    call('HSET', key, user, decimal(now) .. ' ' .. life .. ' ' .. info)
    log[#log + 1] = '+'
    log[#log + 1] = concat({ scope, user, decimal(now), decimal(call('HLEN', key)), info }, ' ')
    return
  end
  local others = without(lives, life)
  if others == '-' then
    call('ZREM', base .. 'leaving', entry)
  end
  call('HSET', key, user, concat({ since, others == '-' and life or others .. ',' .. life, kept }, ' '))
end

local function leave_member(base, log, scope, user, now)
  local key = base .. 'members:' .. scope
  call('ZREM', base .. 'leaving', scope .. ' ' .. user)
  if call('HDEL', key, user) == 1 then
    log[#log + 1] = '-'
    log[#log + 1] = concat({ scope, user, decimal(now), decimal(call('HLEN', key)) }, ' ')
  end
end

-- A life holds a member no more. Without another life the member leaves when it is due.
local function depart_member(base, log, life, scope, user, now, due)
  call('SREM', base .. 'present:' .. life, scope .. ' ' .. user)
  local since, lives, info = read_member(base, scope, user)
  if not since or lives == '-' then
    return
  end
  local others = without(lives, life)
  if others == '-' and due <= now then
    return leave_member(base, log, scope, user, now)
  end
  call('HSET', base .. 'members:' .. scope, user, concat({ since, others, info }, ' '))
  if others == '-' then
    call('ZADD', base .. 'leaving', decimal(due), scope .. ' ' .. user)
  end
end

-- All that a life holds is due, but for what it writes again until then. However much it is, its set changes its name: a copy
-- of 100,000 would hold Redis up for 35 ms. Only where older ghosts have yet to leave the two become one.
local function end_life(base, life, due)
  local present, ghosts = base .. 'present:' .. life, base .. 'ghosts:' .. life
  local had_ghosts = call('EXISTS', ghosts) == 1
  if call('EXISTS', present) == 1 then
    if had_ghosts then
      call('SUNIONSTORE', ghosts, ghosts, present)
      call('UNLINK', present)
    else
      call('RENAME', present, ghosts)
    end
  elseif not had_ghosts then
    return
  end
  call('ZADD', base .. 'leaving', decimal(due), life)
end

-- Lets some ghosts of an ended life leave. How many it looked at.
local function sweep_life(base, log, life, now, most)
  local ghosts, present = base .. 'ghosts:' .. life, base .. 'present:' .. life
  local entries = call('SPOP', ghosts, most)
  for i = 1, #entries do
    if call('SISMEMBER', present, entries[i]) == 0 then
      local scope, user = match(entries[i], '^(%S+) (%S+)$')
      depart_member(base, log, life, scope, user, now, now)
    end
  end
  if call('EXISTS', ghosts) == 0 then
    call('ZREM', base .. 'leaving', life)
  end
  return max(#entries, 1)
end

-- Lets those leave who are due, at most SWEPT_MAX of them.
local function sweep_members(base, log, now)
  local room = SWEPT_MAX
  while room > 0 do
    local due = call('ZRANGEBYSCORE', base .. 'leaving', '-inf', decimal(now), 'LIMIT', 0, room)
    if #due == 0 then
      return
    end
    for i = 1, #due do
      local scope, user = match(due[i], '^(%S+) (%S+)$')
      if scope then
        leave_member(base, log, scope, user, now)
        room = room - 1
      elseif room > 0 then
        room = room - sweep_life(base, log, due[i], now, room)
      end
    end
  end
end

-- Tells the instances what has changed.
local function tell_presence(base, log)
  if #log > 0 then
    local key = base .. 'presence'
    local last = call('XREVRANGE', key, '+', '-', 'COUNT', 1)[1]
    call('XADD', key, 'MAXLEN', PRESENCE_LOG_MAX, '*', 'p', last and last[1] or '', unpack(log))
  end
end

-- What every beat does for members whose instance has died, or has no time left: nothing, mostly.
local function sweep_presence(base)
  local log = {}
  sweep_members(base, log, clock())
  tell_presence(base, log)
end
