-- Presence: the members of scopes, as instances write and read them. The rules are in members.lua.
--
-- tidegate_presence_write: changes the members that one incarnation holds, and removes members that are due.
--   KEYS[1] lease, KEYS[2] peers
--   ARGV    token, instance id, grace ms [, '+' or '-', TENANT/FAMILY:ID, user, info (JSON) or '', …]
--           no change, or up to PRESENCE_CHANGES_MAX of them
--   →       { 'OK', ms until the next member is due, or '' } or { 'REFUSED', why }
-- tidegate_presence_rewrite: the members of this incarnation are unknown, and will be written again within this time.
--   KEYS    as for writing
--   ARGV    token, instance id, ms
--   →       { 'OK' } or { 'REFUSED', why }
-- tidegate_presence_list: the members of some scopes. Writes nothing (FCALL_RO).
--   KEYS[1] peers
--   ARGV    most members of a scope, TENANT/FAMILY:ID [, TENANT/FAMILY:ID …]
--   →       { id of the newest change or '', for each scope: number of members, number of those that follow
--           [, user, since (ms), incarnations, info …] }
--
-- A user is a member from the first connection on any instance until the last connection has ended and the grace is
-- over.

local PRESENCE_CHANGES_MAX = 128

local function incarnation_of(token, id)
  return id .. ':' .. match(token, '([^:]*)$')
end

register('tidegate_presence_write', {}, function(keys, args)
  local lease, base = keys[1], base_of(keys[2])
  local token, id, grace_ms, count = args[1], args[2], tonumber(args[3]), #args - 3
  if count % 4 ~= 0 or count > 4 * PRESENCE_CHANGES_MAX then
    return error_reply('ERR changes are + or -, SCOPE USER INFO, at most ' .. PRESENCE_CHANGES_MAX .. ' of them')
  end
  local refused = refusal(lease, token)
  if refused then
    return refused
  end
  local incarnation, now, log = incarnation_of(token, id), clock(), {}
  keep_type(base .. 'leaving', 'zset')
  for i = 4, #args, 4 do
    if args[i] == '+' then
      enter_member(base, log, incarnation, args[i + 1], args[i + 2], args[i + 3], now)
    else
      depart_member(base, log, incarnation, args[i + 1], args[i + 2], now, now + grace_ms)
    end
  end
  sweep_members(base, log, now)
  publish_presence(base, log)
  local due = call('ZRANGE', base .. 'leaving', 0, 0, 'WITHSCORES')[2]
  return { 'OK', due and decimal(min(max(tonumber(due) - now, 0), WHOLE_MAX)) or '' }
end)

register('tidegate_presence_rewrite', {}, function(keys, args)
  local refused = refusal(keys[1], args[1])
  if refused then
    return refused
  end
  end_incarnation(base_of(keys[2]), incarnation_of(args[1], args[2]), clock() + tonumber(args[3]))
  return { 'OK' }
end)

-- Returns some members of a scope; if there are many, any of them.
local function some_members(key, most)
  if read_or(0, 'HLEN', key) <= most then
    return read_or({}, 'HGETALL', key)
  end
  local cursor, found = '0', {}
  repeat
    local page = call('HSCAN', key, cursor, 'COUNT', most)
    cursor = page[1]
    for i = 1, #page[2] do
      found[#found + 1] = page[2][i]
    end
  until cursor == '0' or #found >= 2 * most
  return found
end

register('tidegate_presence_list', { 'no-writes', 'allow-oom' }, function(keys, args)
  local base, most = base_of(keys[1]), tonumber(args[1])
  local last = read_or({}, 'XREVRANGE', base .. 'presence', '+', '-', 'COUNT', 1)[1]
  local answer = { last and last[1] or '' }
  for i = 2, #args do
    local key = base .. 'members:' .. args[i]
    local members, n, shown = most > 0 and some_members(key, most) or {}, #answer + 2, 0
    for j = 1, #members, 2 do
      local since, incarnations, info = match(members[j + 1], '^(%d+) (%S+) (.*)$')
      if whole(since) and shown < most then
        local at = n + 4 * shown
        answer[at + 1], answer[at + 2], answer[at + 3], answer[at + 4] = members[j], since, incarnations, info
        shown = shown + 1
      end
    end
    answer[n - 1], answer[n] = decimal(read_or(0, 'HLEN', key)), decimal(shown)
  end
  return answer
end)
