-- Records of sessions: the subscriptions that they had when their connections ended. They are written and taken under
-- the lease of an instance (registry.lua). directory.lua knows where a session is still connected.
--
-- tidegate_registry_leave: stores records of sessions, unless a newer connection has left one, or taken one elsewhere.
--   KEYS[1] lease, KEYS[2] peers
--   ARGV    token, retention of a record (ms) [, session id, TENANT/USER, connected since (ms), record …]
--   →       { 'OK' } or { 'REFUSED', why }
-- tidegate_registry_take: takes records, each for one taker only. If the same taker asks again, it gets the same
-- record.
--   KEYS[1] lease, KEYS[2] peers
--   ARGV    token, retention of the trace (ms)
--           [, session id, TENANT/USER, connected since (ms), at the latest since (ms), taker …]
--           a taker is INCARNATION/NUMBER
--   →       { 'OK' [, 'record RECORD', 'none', 'awaited' or 'replaced' …] } or { 'REFUSED', why }
--           awaited   an older connection of the session is listed elsewhere, and a command to end it has been sent; or
--                     another taker has the record, and is not listed yet
--           replaced  a connection of the session is listed elsewhere that is certainly newer. If it is not certain,
--                     the asking connection counts as the newer one
--           Rows of the asking instance itself are skipped: it knows better which of its own connections is the newest,
--           and one of these rows may be that of the asking connection.
--
-- A record is "SINCE - RECORD", or "SINCE TAKER RECORD" when it has been taken. Its key contains its owner: a client
-- that names the session of another user finds nothing.
--
-- SINCE is the earliest possible time. An instance may know this clock better when the connection ends, or meet another
-- clock after a failover, and then gives another SINCE for the same connection. That must not lose the record of the
-- connection that took the last one; therefore an instance may replace a record that it has taken itself. An instance
-- leaves records before it takes later ones, so such a record is not that of an older connection.

local RECORDS_MAX = 128

local function record_key(peers, session, owner)
  return match(peers, '^(.*)peers$') .. 'record:' .. owner .. ':' .. session
end

register('tidegate_registry_leave', {}, function(keys, args)
  if #args % 4 ~= 2 or #args > 2 + 4 * RECORDS_MAX then
    return error_reply('ERR records are SESSION OWNER SINCE RECORD, at most ' .. RECORDS_MAX .. ' of them')
  end
  local refused = refusal(keys[1], args[1])
  if refused then
    return refused
  end
  local own = match(args[1], '([^:]*)$')
  for i = 3, #args, 4 do
    local key = record_key(keys[2], args[i], args[i + 1])
    local since, taker = match(read_or(false, 'GET', key) or '', '^(%d+) ([^ /]+)')
    if (whole(since) or 0) <= tonumber(args[i + 2]) or taker == own then
      call('SET', key, args[i + 2] .. ' - ' .. args[i + 3], 'PX', args[2])
    end
  end
  return { 'OK' }
end)

register('tidegate_registry_take', {}, function(keys, args)
  if #args % 5 ~= 2 or #args > 2 + 5 * RECORDS_MAX then
    return error_reply('ERR questions are SESSION OWNER SINCE LATEST TAKER, at most ' .. RECORDS_MAX .. ' of them')
  end
  local refused = refusal(keys[1], args[1])
  if refused then
    return refused
  end
  local all, own, answer, now = incarnations(keys[2]), match(args[1], '([^:]*)$'), { 'OK' }, clock()

  local function take(session, owner, since, latest, taker)
    local key = record_key(keys[2], session, owner)
    local by, record = match(read_or(false, 'GET', key) or '', '^%d+ (%S+) (.*)$')
    local found = 'none'
    if by then
      if by == '-' or by == taker then
        call('SET', key, since .. ' ' .. taker .. ' ' .. record, 'PX', args[2])
        return 'record ' .. record
      end
      found = 'awaited'
    end
    for _, other in ipairs(registrations(all, owner)) do
      if other.session == session and other.incarnation.incarnation ~= own then
        if other.since > tonumber(latest) and not is_ahead(other.since, now) then
          return 'replaced'
        end
        found = 'awaited'
        send_command(other.incarnation, session, of_then('replaced', decimal(other.since)))
      end
    end
    return found
  end

  for i = 3, #args, 5 do
    answer[#answer + 1] = take(args[i], args[i + 1], args[i + 2], args[i + 3], args[i + 4])
  end
  return answer
end)
