-- The rules of presence: what joining and leaving mean. The functions are in presence.lua; registry.lua ends whole
-- incarnations.
--
-- All keys share the hash tag {registry}; their names are made from the name of the peers. A member is a user, held by
-- the incarnations of the instances to which the user is connected:
--   members:TENANT/FAMILY:ID      hash of user → "since(ms) incarnation,incarnation,… info"; "-" in place of the
--                                 incarnations: the user is disconnected and may return until it is due
--   present:INSTANCE:INCARNATION  set of "TENANT/FAMILY:ID user" that this incarnation holds
--   stale:INSTANCE:INCARNATION    the same for an incarnation that has ended, or writes all its members again
--   leaving                       sorted set of "TENANT/FAMILY:ID user", and of incarnations with stale rows, by the
--                                 time (ms) when they are due
--   presence                      stream of changes, one entry per call: '+' "scope user since count info",
--                                 '-' "scope user now count", and 'p', the id of the entry before it
--
-- The call that removes a member writes its entry in the same step, so that each leave is reported once.

-- Most members that one call removes: about 3 ms of Redis' time.
local SWEPT_MAX = 256
-- Readers wait for entries and lag by few of them. A reader that lags further reads the lists again.
local PRESENCE_LOG_MAX = 256

-- Other programs may write anything under these names. Members and rows are written again by the instances that hold
-- them, so a value of another type is removed, and one of another form is passed over.

-- Removes a key with a value of another type.
local function keep_type(key, kind)
  local is = call('TYPE', key).ok
  if is ~= kind and is ~= 'none' then
    redis.log(redis.LOG_WARNING, 'tidegate: removed ' .. key .. ', which another program had written as a ' .. is)
    call('UNLINK', key)
  end
end

-- Returns the answer of a reading command, or `otherwise` if the key has a value of another type.
local function read_or(otherwise, ...)
  local answer = pcall_redis(...)
  if type(answer) == 'table' and answer.err then
    if find(answer.err, '^WRONGTYPE') then
      return otherwise
    end
    return call(...) -- any other error, such as a missing permission, is the function's too
  end
  return answer
end

local function base_of(peers)
  return match(peers, '^(.*)peers$')
end

local function read_member(base, scope, user)
  local key = base .. 'members:' .. scope
  keep_type(key, 'hash')
  local since, incarnations, info = match(call('HGET', key, user) or '', '^(%d+) (%S+) (.*)$')
  if whole(since) then
    return since, incarnations, info
  end
end

local function without(incarnations, incarnation)
  local left = {}
  for other in gmatch(incarnations, '[^,]+') do
    if other ~= incarnation then
      left[#left + 1] = other
    end
  end
  return #left > 0 and concat(left, ',') or '-'
end

local function enter_member(base, log, incarnation, scope, user, info, now)
  local key, entry = base .. 'members:' .. scope, scope .. ' ' .. user
  keep_type(base .. 'present:' .. incarnation, 'set')
  call('SADD', base .. 'present:' .. incarnation, entry)
  local since, incarnations, kept = read_member(base, scope, user)
  if not since then
    call('HSET', key, user, decimal(now) .. ' ' .. incarnation .. ' ' .. info)
    log[#log + 1] = '+'
    log[#log + 1] = concat({ scope, user, decimal(now), decimal(call('HLEN', key)), info }, ' ')
    return
  end
  local others = without(incarnations, incarnation)
  if others == '-' then
    call('ZREM', base .. 'leaving', entry)
  end
  call('HSET', key, user, concat({ since, others == '-' and incarnation or others .. ',' .. incarnation, kept }, ' '))
end

local function leave_member(base, log, scope, user, now)
  local key = base .. 'members:' .. scope
  call('ZREM', base .. 'leaving', scope .. ' ' .. user)
  keep_type(key, 'hash')
  if call('HDEL', key, user) == 1 then
    log[#log + 1] = '-'
    log[#log + 1] = concat({ scope, user, decimal(now), decimal(call('HLEN', key)) }, ' ')
  end
end

-- An incarnation no longer holds a member. If no other incarnation holds it, the member leaves when it is due.
local function depart_member(base, log, incarnation, scope, user, now, due)
  read_or(0, 'SREM', base .. 'present:' .. incarnation, scope .. ' ' .. user)
  local since, incarnations, info = read_member(base, scope, user)
  if not since or incarnations == '-' then
    return
  end
  local others = without(incarnations, incarnation)
  if others == '-' and due <= now then
    return leave_member(base, log, scope, user, now)
  end
  call('HSET', base .. 'members:' .. scope, user, concat({ since, others, info }, ' '))
  if others == '-' then
    call('ZADD', base .. 'leaving', decimal(due), scope .. ' ' .. user)
  end
end

-- Makes all members of an incarnation due, except those that it writes again until then. The set is renamed, whatever
-- its size: a copy of 100,000 members would block Redis for 35 ms. The two sets are merged only if older stale rows
-- have not left yet.
local function end_incarnation(base, incarnation, due)
  local present, stale = base .. 'present:' .. incarnation, base .. 'stale:' .. incarnation
  keep_type(present, 'set')
  keep_type(stale, 'set')
  keep_type(base .. 'leaving', 'zset')
  local had_stale = call('EXISTS', stale) == 1
  if call('EXISTS', present) == 1 then
    if had_stale then
      call('SUNIONSTORE', stale, stale, present)
      call('UNLINK', present)
    else
      call('RENAME', present, stale)
    end
  elseif not had_stale then
    return
  end
  call('ZADD', base .. 'leaving', decimal(due), incarnation)
end

-- Removes some stale rows of an ended incarnation. Returns how many it looked at.
local function sweep_incarnation(base, log, incarnation, now, most)
  local stale, present = base .. 'stale:' .. incarnation, base .. 'present:' .. incarnation
  keep_type(stale, 'set')
  local entries = call('SPOP', stale, most)
  for i = 1, #entries do
    local scope, user = match(entries[i], '^(%S+) (%S+)$')
    if scope and read_or(0, 'SISMEMBER', present, entries[i]) == 0 then
      depart_member(base, log, incarnation, scope, user, now, now)
    end
  end
  if call('EXISTS', stale) == 0 then
    call('ZREM', base .. 'leaving', incarnation)
  end
  return max(#entries, 1)
end

-- Removes the members that are due, at most SWEPT_MAX of them.
local function sweep_members(base, log, now)
  keep_type(base .. 'leaving', 'zset')
  keep_type(base .. 'presence', 'stream')
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
        room = room - sweep_incarnation(base, log, due[i], now, room)
      end
    end
  end
end

-- Publishes the changes to the instances.
local function publish_presence(base, log)
  if #log > 0 then
    local key = base .. 'presence'
    local last = call('XREVRANGE', key, '+', '-', 'COUNT', 1)[1]
    local entry = pcall_redis('XADD', key, 'MAXLEN', PRESENCE_LOG_MAX, '*', 'p', last and last[1] or '', unpack(log))
    if entry.err then -- another program has written an entry with an id of the future
      call('UNLINK', key)
      call('XADD', key, '*', 'p', last and last[1] or '', unpack(log))
    end
  end
end

-- Runs with every heartbeat, for members that are due and whose instance does not remove them, because it has died or
-- is busy. Usually there is nothing to do.
local function sweep_presence(base)
  local log = {}
  sweep_members(base, log, clock())
  publish_presence(base, log)
end
