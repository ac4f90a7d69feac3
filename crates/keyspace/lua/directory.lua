-- The directory: which user is connected to which instance. Rows change only under the lease of their instance
-- (registry.lua).
--
-- tidegate_registry_write: changes rows of the incarnation that holds the lease, within the limits of their owners.
--   KEYS[1] lease, KEYS[2] rows, KEYS[3] users, KEYS[4] peers
--   ARGV    token, rows ms, most connections of a user, of a tenant (0: no limit), 'reject' or 'close_oldest',
--           session id, row or '' to remove it, connected since (ms), at the latest since [, session id, row …]
--   →       { 'OK', number of rows [, session id that is not listed and must be closed, why …] } or { 'REFUSED', why }
-- tidegate_registry_delete: deletes the rows of one incarnation.
--   KEYS[1] lease, KEYS[2] rows, KEYS[3] users
--   ARGV    token
--   →       { 'OK' } or { 'REFUSED', why }
-- tidegate_registry_who: the connections of a user. Writes nothing (FCALL_RO).
--   KEYS[1] peers
--   ARGV    TENANT/USER
--   →       { instance id, session id, connected since (ms), … }
-- tidegate_registry_kick: closes all connections of a user, or one of them, on every instance.
--   KEYS[1] peers
--   ARGV    TENANT/USER, session id or '' for all
--   →       as for who: the connections that will be closed
-- tidegate_registry_send: sends a notice to all connections of a user, or to one of them, on every instance.
--   KEYS[1] peers
--   ARGV    TENANT/USER, session id or '' for all, notice
--   →       as for who: the connections to which it will be sent
--
-- A row is { tenant, user, shard, connected_at }. connected_at is in RFC 3339, and is the earliest possible time: an
-- instance knows Redis' clock only with the uncertainty of one call. "At the latest since" is the other end of that
-- range, in RFC 3339 too. The hash `users` of the same incarnation counts rows:
--   #TENANT/USER   number of a user's rows    TENANT/USER   which: "session@ms session@ms …", at most LISTED_MAX
--   #TENANT        number of a tenant's rows  -             number of rows that others removed since the last write
-- It is removed with its incarnation, so a limit counts living instances only. The names of other instances' keys are
-- made from their ids here: all of them share one hash tag, and therefore one node of a Redis Cluster.
--
-- Commands are for one incarnation of an instance: session id or TENANT/USER → why it must be closed, and
-- "notice NUMBER WHOM" → the notice, for a session id or TENANT/USER. Notices are handled in the order of their
-- numbers. Commands are taken when the instance renews its lease. It does this at once when it is woken up (by a list
-- on which it waits with BLPOP), and at its next heartbeat in any case.
--
-- Why a session must be closed: 'limit' (it exceeds a limit), 'replaced' (its owner has connected elsewhere), 'kicked'.
-- If the session is listed, '@' and the time (ms) since when that connection was there follow: the client may have
-- connected again before the command is read.

local ROW_CHANGES_MAX = 128
-- If a user has more connections on one instance, this many are listed by name and all are counted. Every change reads
-- the names.
local LISTED_MAX = 128
-- Above this number notices are refused. An instance that works has none waiting.
local COMMANDS_MAX = 1000
local INSTANCE_ID = '^' .. NAME .. '+$'

-- Returns the incarnations of all instances, with the names of their keys.
local function incarnations(peers)
  local base, found = match(peers, '^(.*)peers$'), {}
  local entries = read_or({}, 'HGETALL', peers)
  for i = 1, #entries, 2 do
    local _, record = peer_in(entries[i + 1])
    if record and find(entries[i], INSTANCE_ID) then
      local incarnation = entries[i] .. ':' .. record.incarnation
      found[#found + 1] = {
        id = entries[i],
        incarnation = record.incarnation,
        rows = base .. 'rows:' .. incarnation,
        users = base .. 'users:' .. incarnation,
        commands = base .. 'commands:' .. incarnation,
        wakeup = base .. 'wakeup:' .. entries[i],
      }
    end
  end
  return found
end

-- Returns the number of connections of a user or tenant in all incarnations.
local function total(all, who)
  local count = 0
  for _, incarnation in ipairs(all) do
    count = count + (whole(read_or(false, 'HGET', incarnation.users, '#' .. who)) or 0)
  end
  return count
end

-- Returns the listed connections of `owner`: { session, since, incarnation }, in no order.
local function registrations(all, owner)
  local found = {}
  for _, incarnation in ipairs(all) do
    for session, text in gmatch(read_or(false, 'HGET', incarnation.users, owner) or '', '([^@ ]+)@(%d+)') do
      local since = whole(text)
      found[#found + 1] = since and { session = session, since = since, incarnation = incarnation } or nil
    end
  end
  return found
end

-- Whether a registration is dated ahead of the clock of Redis: the clock has been set back since, and the instance has
-- not written its rows again yet. Such a time says nothing about which connection is newer. Instances know the clock to
-- within the time of one call.
local CLOCK_ERROR_MS = 1000
local function is_ahead(since, now)
  return since ~= nil and since > now + CLOCK_ERROR_MS
end

-- Returns when a session of `owner` was connected, if the incarnation lists it.
local function since_of(incarnation, owner, session)
  for _, one in ipairs(registrations({ incarnation }, owner)) do
    if one.session == session then
      return one.since
    end
  end
end

-- Adds `change` (1 or -1) to the count in field `who`, and returns the new count.
local function count_one(users, who, change)
  local count = (whole(call('HGET', users, who)) or 0) + change
  if count <= 0 then
    call('HDEL', users, who)
  else
    call('HSET', users, who, decimal(count))
  end
  return count
end

local function add_registration(users, row, session, since)
  local owner = row.tenant .. '/' .. row.user
  count_one(users, '#' .. row.tenant, 1)
  local is_short, list = count_one(users, '#' .. owner, 1) <= LISTED_MAX, call('HGET', users, owner)
  -- A session is listed if the list has room, even if there are more than LISTED_MAX of them: the listed ones are the
  -- oldest, and are closed first.
  if is_short or not list or select(2, gsub(list, '@', '@')) < LISTED_MAX then
    call('HSET', users, owner, (list and list .. ' ' or '') .. session .. '@' .. decimal(since))
  end
end

-- Returns the incarnations that have connections of `owner`, listed by name or not.
local function incarnations_with(all, owner)
  local found = {}
  for _, incarnation in ipairs(all) do
    if read_or(false, 'HGET', incarnation.users, '#' .. owner) then
      found[#found + 1] = incarnation
    end
  end
  return found
end

local function remove_registration(users, row, session)
  local owner, left, since_when = row.tenant .. '/' .. row.user, {}, nil
  count_one(users, '#' .. owner, -1)
  count_one(users, '#' .. row.tenant, -1)
  for other, since in gmatch(call('HGET', users, owner) or '', '([^@ ]+)@(%d+)') do
    if other ~= session then
      left[#left + 1] = other .. '@' .. since
    else
      since_when = since
    end
  end
  if #left == 0 then
    call('HDEL', users, owner)
  else
    call('HSET', users, owner, concat(left, ' '))
  end
  return since_when
end

-- Returns the row in `text`, or nil if there is none, or another program has written it.
local function row_in(text)
  local row = text and decode(text)
  if row and type(row.tenant) == 'string' and type(row.user) == 'string' and type(row.connected_at) == 'string' then
    return row
  end
end

-- Removes a row of one incarnation. Returns whether it existed, and since when.
local function remove(rows, users, session)
  keep_type(rows, 'hash')
  keep_type(users, 'hash')
  local text = call('HGET', rows, session)
  if not text then
    return false
  end
  call('HDEL', rows, session)
  local row = row_in(text)
  return true, row and remove_registration(users, row, session)
end

local function of_then(why, since)
  return since and why .. '@' .. since or why
end

-- Adds a command for another instance and wakes it up.
local function send_command(incarnation, what, how)
  keep_type(incarnation.commands, 'hash')
  keep_type(incarnation.wakeup, 'list')
  call('HSET', incarnation.commands, what, how)
  call('PEXPIRE', incarnation.commands, COMMANDS_MS)
  call('LPUSH', incarnation.wakeup, '')
  call('LTRIM', incarnation.wakeup, 0, 0)
  call('PEXPIRE', incarnation.wakeup, COMMANDS_MS)
end

register('tidegate_registry_write', {}, function(keys, args)
  local lease, rows, users, peers = keys[1], keys[2], keys[3], keys[4]
  local token, rows_ms, user_max, tenant_max, excess = args[1], args[2], tonumber(args[3]), tonumber(args[4]), args[5]
  local count = #args - 5
  if count % 4 ~= 0 or count > 4 * ROW_CHANGES_MAX then
    return error_reply('ERR rows are SESSION ROW SINCE LATEST, at most ' .. ROW_CHANGES_MAX .. ' of them')
  end
  local refused = refusal(lease, token)
  if refused then
    return refused
  end
  keep_type(rows, 'hash')
  keep_type(users, 'hash')
  local all, closing, now = incarnations(peers), {}, clock()

  -- Closes a listed session and no longer counts it. The command is needed even on this instance: nobody writes that
  -- row again, so the close would be lost if this answer were lost.
  local function close(incarnation, session, why)
    local was_there, since = remove(incarnation.rows, incarnation.users, session)
    if was_there then
      count_one(incarnation.users, '-', 1)
      call('PEXPIRE', incarnation.users, rows_ms, 'NX') -- if it was the last one, the key is new
      send_command(incarnation, session, of_then(why, since))
    end
  end

  -- Whether this session continues elsewhere, in a connection that is certainly newer than this one. An older
  -- connection there is closed: its client has reconnected here before the broken socket was noticed, or uses both. If
  -- it is not certain which one is newer, it is the one that is written later. Neither is closed for a row that is dated
  -- ahead: it is soon written again, and decided then.
  local function is_elsewhere(session, row, latest)
    for _, incarnation in ipairs(all) do
      local other = row_in(incarnation.rows ~= rows and read_or(false, 'HGET', incarnation.rows, session))
      if other and other.tenant == row.tenant and other.user == row.user then
        if not is_ahead(since_of(incarnation, row.tenant .. '/' .. row.user, session), now) then
          if other.connected_at > latest then
            return true
          end
          close(incarnation, session, 'replaced')
        end
      end
    end
    return false
  end

  local function put(session, text, since, latest)
    local row = cjson.decode(text)
    remove(rows, users, session)
    if is_elsewhere(session, row, latest) then
      closing[#closing + 1], closing[#closing + 2] = session, of_then('replaced', decimal(since))
      return
    end
    local owner = row.tenant .. '/' .. row.user
    local over = user_max > 0 and total(all, owner) + 1 - user_max or 0
    if over > 0 and excess == 'close_oldest' then
      -- The new row may be the oldest itself, because rows are written again after an outage. If two have the same
      -- time, it is the newer one. One that is dated ahead is older.
      local own = { session = session, since = since }
      local oldest = registrations(all, owner)
      oldest[#oldest + 1] = own
      for _, one in ipairs(oldest) do
        one.order = is_ahead(one.since, now) and one ~= own and 0 or one.since
      end
      table.sort(oldest, function(a, b)
        if a.order ~= b.order then
          return a.order < b.order
        end
        return b == own and a ~= own
      end)
      local is_oldest = false
      for i = 1, min(over, #oldest) do
        if oldest[i] == own then
          is_oldest = true
        else
          close(oldest[i].incarnation, oldest[i].session, 'replaced')
        end
      end
      if is_oldest then
        closing[#closing + 1], closing[#closing + 2] = session, of_then('replaced', decimal(since))
        return
      end
      over = 0
    end
    if over > 0 or (tenant_max > 0 and total(all, row.tenant) >= tenant_max) then
      closing[#closing + 1], closing[#closing + 2] = session, of_then('limit', decimal(since))
      return
    end
    call('HSET', rows, session, text)
    add_registration(users, row, session, since)
  end

  for i = 6, #args, 4 do
    if args[i + 1] == '' then
      remove(rows, users, args[i])
    else
      put(args[i], args[i + 1], tonumber(args[i + 2]), args[i + 3])
    end
  end
  call('HDEL', users, '-')
  call('PEXPIRE', rows, rows_ms)
  call('PEXPIRE', users, rows_ms)
  return { 'OK', decimal(call('HLEN', rows)), unpack(closing) }
end)

register('tidegate_registry_delete', { 'allow-oom' }, function(keys, args)
  local refused = refusal(keys[1], args[1])
  if refused then
    return refused
  end
  call('UNLINK', keys[2], keys[3])
  return { 'OK' }
end)

local function listed_connections(found)
  local answer = {}
  for _, one in ipairs(found) do
    local n = #answer
    answer[n + 1], answer[n + 2], answer[n + 3] = one.incarnation.id, one.session, decimal(one.since)
  end
  return answer
end

register('tidegate_registry_who', { 'no-writes', 'allow-oom' }, function(keys, args)
  return listed_connections(registrations(incarnations(keys[1]), args[1]))
end)

register('tidegate_registry_kick', {}, function(keys, args)
  local owner, session, all, found = args[1], args[2], incarnations(keys[1]), {}
  for _, incarnation in ipairs(session == '' and incarnations_with(all, owner) or {}) do
    send_command(incarnation, owner, 'kicked')
  end
  for _, one in ipairs(registrations(all, owner)) do
    if session == one.session then
      send_command(one.incarnation, session, of_then('kicked', decimal(one.since)))
    end
    if session == '' or session == one.session then
      found[#found + 1] = one
    end
  end
  return listed_connections(found)
end)

register('tidegate_registry_send', {}, function(keys, args)
  local owner, session, notice, all, found, commands = args[1], args[2], args[3], incarnations(keys[1]), {}, {}
  local time = call('TIME')
  local number = decimal(time[1] * 1000000 + time[2])
  for _, incarnation in ipairs(session == '' and incarnations_with(all, owner) or {}) do
    commands[incarnation.commands] = incarnation
  end
  for _, one in ipairs(registrations(all, owner)) do
    if session == '' or session == one.session then
      found[#found + 1] = one
      commands[one.incarnation.commands] = one.incarnation
    end
  end
  for key in pairs(commands) do
    if read_or(0, 'HLEN', key) >= COMMANDS_MAX then
      return error_reply('BUSY an instance has ' .. COMMANDS_MAX .. ' commands waiting that it does not take')
    end
  end
  for _, incarnation in pairs(commands) do
    send_command(incarnation, 'notice ' .. number .. ' ' .. (session == '' and owner or session), notice)
  end
  return listed_connections(found)
end)
