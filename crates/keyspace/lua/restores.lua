-- What sessions held when their connections ended. Written and taken under the lease of an instance (registry.lua); where a
-- session is still connected, directory.lua knows.
--
-- tidegate_registry_leave: keeps records of sessions, unless a newer connection has left one, or taken one elsewhere.
--   KEYS[1] lease, KEYS[2] peers
--   ARGV    token, ms a record is kept [, session id, TENANT/USER, connected since (ms), record …]
--   →       { 'OK' } or { 'REFUSED', why }
-- tidegate_registry_take: takes records up, each for one taker alone. Asked again, the same taker gets the same record.
--   KEYS[1] lease, KEYS[2] peers
--   ARGV    token, ms its trace is kept [, session id, TENANT/USER, connected since (ms), at the latest since (ms), taker …]
--           a taker is INCARNATION/NUMBER
--   →       { 'OK' [, 'record RECORD', 'none', 'awaited' or 'replaced' …] } or { 'REFUSED', why }
--           awaited   an older connection of the session is listed elsewhere, and has been told to end; or another taker has
--                     the record, and is not listed yet
--           replaced  a connection of the session is listed elsewhere that is certainly newer; if either may be, the one that
--                     asks is
--           Which of its own connections is the newest the instance knows better: its rows are passed over. One of them may be
--           that of the connection that asks.
--
-- A record is "SINCE - RECORD", and "SINCE TAKER RECORD" when it has been taken. Its key has its owner in it: who names
-- another one's session finds nothing.
--
-- SINCE is as early as it may have been. An instance that knows this clock better by now, or another clock after a failover,
-- dates a connection anew when it ends: that must not cost the record of the one that took the last. What an instance leaves
-- comes before what it takes later, so it is no older one's.

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
    local held = call('GET', key)
    local since, taker = match(held or '0 -', '^(%d+) ([^ /]+)')
    if tonumber(since) <= tonumber(args[i + 2]) or taker == own then
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
  local all, own, answer = incarnations(keys[2]), match(args[1], '([^:]*)$'), { 'OK' }

  local function take(session, owner, since, latest, taker)
    local key = record_key(keys[2], session, owner)
    local held, found = call('GET', key), 'none'
    if held then
      local by, record = match(held, '^%d+ (%S+) (.*)$')
      if by == '-' or by == taker then
        call('SET', key, since .. ' ' .. taker .. ' ' .. record, 'PX', args[2])
        return 'record ' .. record
      end
      found = 'awaited'
    end
    for _, other in ipairs(registrations(all, owner)) do
      if other.session == session and other.incarnation.incarnation ~= own then
        if other.since > tonumber(latest) then
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
