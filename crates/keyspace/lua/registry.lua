-- The registry: which instances are alive. All keys share the hash tag {registry}; what instances own is in
-- directory.lua.
--
-- tidegate_registry_acquire: acquires the lease of an instance for one of its incarnations.
--   KEYS[1] lease, KEYS[2] fence, KEYS[3] peers
--   ARGV    instance id, incarnation, lease ms, peer record, forget ms [, presence grace ms]
--   →       { 'GRANTED', token, clock (ms), the peer record before this one or '' } or { 'BUSY', token of the holder }
-- tidegate_registry_renew: extends the lease and its rows, and writes a heartbeat for the peers.
--   KEYS[1] lease, KEYS[2] peers, KEYS[3] rows, KEYS[4] users, KEYS[5] commands
--   ARGV    token, instance id, lease ms, rows ms, peer record, number of the newest heartbeat whose answer was read
--   →       { 'OK', clock (ms), number of rows, including those that others removed since the last write
--           [, session id or TENANT/USER to be closed, why …] } or { 'REFUSED', why }
-- tidegate_registry_release: ends the lease, and removes its rows and its entry among the peers.
--   KEYS    as for renewing
--   ARGV    token, instance id [, presence grace ms]
--   →       { 'OK' } or { 'REFUSED', why }
-- tidegate_registry_peers: every heartbeat. Writes nothing (FCALL_RO).
--   KEYS[1] peers
--   →       { instance id, age ms, peer record, … }
-- tidegate_registry_reap: removes a dead peer and its rows, when a living instance asks for it.
--   KEYS[1] lease of the asking instance, KEYS[2] peers, KEYS[3] lease of the dead one, KEYS[4] its rows,
--   KEYS[5] its users, KEYS[6] its commands
--   ARGV    token, id of the dead one, its incarnation, its newest heartbeat number
--   →       { 'OK', number of rows removed }, { 'OK', '' } if it lives or another peer was first, or { 'REFUSED', why }
--
-- A token is REPLICATION-ID:NUMBER:INCARNATION, and the lease key holds nothing else. It is valid only while the lease
-- key holds exactly this text, and only in the Redis that granted it: a promoted replica knows the lease too, but not
-- what the old primary did with it afterwards. The number is above every earlier one and not below the clock in µs. It
-- is therefore new even if the counter was lost (FLUSHALL): no Redis grants more than one per µs.
--
-- A call that ends an incarnation here also ends its presence (members.lua): after the grace, or at once if the
-- incarnation is reaped, because its clients have had enough time. Every renewal removes some of the members that are
-- due.
--
-- Commands are repeated until a later heartbeat says that an answer with them was read: an answer may be lost, and a
-- connection that was to be closed is not listed any more. Until then they are in COMMANDS:pending, with the number of
-- the heartbeat in `heartbeat`.
--
-- Other programs may write anything into these keys. A value of another type is removed, because instances write theirs
-- again; an entry of another form counts as none, and is named in the log of every instance.
--
-- Renewing, releasing, deleting and reaping are allowed when Redis is out of memory: they use none, and an instance
-- must not lose its lease because of that.

-- How long commands wait for an instance. A living instance sends a heartbeat every few seconds.
local COMMANDS_MS = 60 * 1000
-- How many bytes of what another program has written are shown.
local FOREIGN_SHOWN_BYTES = 256

-- Returns why `token` is not the current lease, or nil.
local function refusal(lease, token)
  if match(token, '^%x+') ~= replication_id() then
    return { 'REFUSED', 'GENERATION' }
  end
  local held = read_or(false, 'GET', lease)
  if not held then
    return { 'REFUSED', 'EXPIRED' }
  end
  if held ~= token then
    return { 'REFUSED', 'TAKEN' }
  end
end

-- Writes a heartbeat. Returns the clock.
local function heartbeat(peers, id, record)
  local now = decimal(clock())
  call('HSET', peers, id, now .. ' ' .. record)
  return now
end

-- Returns the JSON object in `text`, or nil.
local function decode(text)
  local is_json, object = pcall(cjson.decode, text)
  return is_json and type(object) == 'table' and object or nil
end

-- Returns time (ms), record and its text from an entry of the peers, or nil if another program has written it.
local function peer_in(entry)
  local at, text = match(entry or '', '^(%d+) (.*)$')
  local record = whole(at) and decode(text)
  if record and find(tostring(record.incarnation), '^%x+$') and type(record.heartbeat) == 'number' then
    return whole(at), record, text
  end
end

-- Removes the entries of instances that died long ago and were not reaped.
local function forget(peers, now, forget_ms)
  local entries = call('HGETALL', peers)
  for i = 1, #entries, 2 do
    local at, record = peer_in(entries[i + 1])
    if at and at < now - forget_ms then
      end_incarnation(base_of(peers), entries[i] .. ':' .. record.incarnation, now)
      call('HDEL', peers, entries[i])
    end
  end
end

register('tidegate_registry_acquire', {}, function(keys, args)
  local lease, fence, peers = keys[1], keys[2], keys[3]
  local id, incarnation, lease_ms, record, forget_ms = args[1], args[2], args[3], args[4], args[5]
  local grace_ms = tonumber(args[6] or 0)
  local replid, now = replication_id(), clock()
  keep_type(lease, 'string')
  keep_type(fence, 'string')
  keep_type(peers, 'hash')
  local held = call('GET', lease)
  if held then
    local generation, holder = match(held, '^(%x+):%d+:(%x+)$')
    -- A lease of another generation is stale by definition.
    if generation == replid and holder ~= incarnation then
      return { 'BUSY', held }
    end
  end
  local time = call('TIME')
  local number = decimal(max((whole(call('GET', fence)) or 0) + 1, time[1] * 1000000 + time[2]))
  local token = replid .. ':' .. number .. ':' .. incarnation
  local _, before, before_text = peer_in(call('HGET', peers, id))
  call('SET', fence, number)
  call('SET', lease, token, 'PX', lease_ms)
  if before and before.incarnation ~= incarnation then
    end_incarnation(base_of(peers), id .. ':' .. before.incarnation, now + grace_ms)
  end
  forget(peers, now, forget_ms)
  return { 'GRANTED', token, heartbeat(peers, id, record), before_text or '' }
end)

local function pending_of(commands)
  return commands .. ':pending'
end

-- Adds to `answer` the new commands of an instance, and those whose answer it may not have read.
local function add_commands(answer, commands, record, acknowledged)
  local pending = pending_of(commands)
  keep_type(commands, 'hash')
  keep_type(pending, 'hash')
  local last = whole(call('HGET', pending, 'heartbeat'))
  if last and last <= acknowledged then
    call('UNLINK', pending)
    last = nil
  end
  local new = call('HGETALL', commands)
  if #new > 0 then
    for i = 1, #new, 2 do
      call('HSET', pending, new[i], new[i + 1])
    end
    call('UNLINK', commands)
  elseif not last then
    return
  end
  call('HSET', pending, 'heartbeat', decimal(cjson.decode(record).heartbeat))
  call('PEXPIRE', pending, COMMANDS_MS)
  local all = call('HGETALL', pending)
  for i = 1, #all, 2 do
    if all[i] ~= 'heartbeat' then
      answer[#answer + 1], answer[#answer + 2] = all[i], all[i + 1]
    end
  end
end

register('tidegate_registry_renew', { 'allow-oom' }, function(keys, args)
  local lease, peers, rows, users, commands = keys[1], keys[2], keys[3], keys[4], keys[5]
  local token, id, lease_ms, rows_ms, record, acknowledged = args[1], args[2], args[3], args[4], args[5], tonumber(args[6])
  local refused = refusal(lease, token)
  if refused then
    return refused
  end
  keep_type(peers, 'hash')
  keep_type(rows, 'hash')
  keep_type(users, 'hash')
  keep_type(base_of(peers) .. 'wakeup:' .. id, 'list')
  call('PEXPIRE', lease, lease_ms)
  call('PEXPIRE', rows, rows_ms)
  call('PEXPIRE', users, rows_ms)
  local at = heartbeat(peers, id, record)
  sweep_presence(base_of(peers))
  -- Rows that others removed are counted too, so that the instance does not take rows for lost.
  local taken = whole(call('HGET', users, '-')) or 0
  local answer = { 'OK', at, decimal(call('HLEN', rows) + taken) }
  add_commands(answer, commands, record, acknowledged)
  return answer
end)

register('tidegate_registry_release', { 'allow-oom' }, function(keys, args)
  local lease, peers, rows, users, commands = keys[1], keys[2], keys[3], keys[4], keys[5]
  local token, id, grace_ms = args[1], args[2], tonumber(args[3] or 0)
  local refused = refusal(lease, token)
  if refused then
    return refused
  end
  end_incarnation(base_of(peers), id .. ':' .. match(token, '([^:]*)$'), clock() + grace_ms)
  call('HDEL', peers, id)
  call('UNLINK', lease, rows, users, commands, pending_of(commands))
  return { 'OK' }
end)

register('tidegate_registry_peers', { 'no-writes', 'allow-oom' }, function(keys)
  local now, answer = clock(), {}
  local entries = read_or({}, 'HGETALL', keys[1])
  for i = 1, #entries, 2 do
    local at, _, record = peer_in(entries[i + 1])
    local n = #answer
    answer[n + 1], answer[n + 2] = sub(entries[i], 1, FOREIGN_SHOWN_BYTES), decimal(max(now - (at or now), 0))
    -- The instances log an entry of another program.
    answer[n + 3] = record or sub(entries[i + 1], 1, FOREIGN_SHOWN_BYTES)
  end
  return answer
end)

register('tidegate_registry_reap', { 'allow-oom' }, function(keys, args)
  local own, peers, lease, rows, users, commands = keys[1], keys[2], keys[3], keys[4], keys[5], keys[6]
  local token, id, incarnation, heartbeats = args[1], args[2], args[3], args[4]
  local refused = refusal(own, token)
  if refused then
    return refused
  end
  local _, record = peer_in(read_or(false, 'HGET', peers, id))
  local held = read_or(false, 'GET', lease)
  -- It has sent a heartbeat since it was last seen, another incarnation has begun, or another instance was first.
  if not record or record.incarnation ~= incarnation or decimal(record.heartbeat) ~= heartbeats then
    return { 'OK', '' }
  end
  -- A lease of another generation is stale by definition.
  if held and match(held, '^%x+') == replication_id() then
    return { 'OK', '' }
  end
  local count, base = read_or(0, 'HLEN', rows), base_of(peers)
  call('HDEL', peers, id)
  call('UNLINK', lease, rows, users, commands, pending_of(commands))
  end_incarnation(base, id .. ':' .. incarnation, clock())
  sweep_presence(base)
  return { 'OK', decimal(count) }
end)
