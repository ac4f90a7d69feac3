-- Revocations: tokens, sessions and users that no gateway accepts any more. One stream, which every gateway follows.
--
-- tidegate_revoke: revokes a token, a session or a user, or lifts a revocation.
--   KEYS[1] revocations  PREFIX:{registry}:revocations
--   ARGV    kind ('token', 'session', 'user'), what (jti, session id or sid, TENANT/USER), ms to keep it, '1' to lift
--   →       the id of the entry
-- tidegate_revocations: the revocations after an entry. Writes nothing (FCALL_RO).
--   KEYS[1] revocations
--   ARGV    id of the last entry that was read or '', most entries
--   →       { '1' if this entry is not there any more and the answer begins with the oldest, else '0'
--           [, id, kind, what, time (ms) or '0' if it was lifted, ms since 1970 until which it counts, …] }
--
-- An entry is kept until no token that it can concern is valid any more. A later entry about the same thing replaces an
-- earlier one. Nothing is removed to make room: an entry above the limit is refused.

local REVOCATIONS_MAX = 100000
local REVOCATION_BYTES_MAX = 512
local REVOCATIONS_KEY = '^' .. NAME .. '+:{registry}:revocations$'
local REVOCATION_KINDS = { token = true, session = true, user = true }

-- Removes the oldest entries whose time is over.
local function trim_revocations(key, now)
  local from = '-'
  repeat
    local page = call('XRANGE', key, from, '+', 'COUNT', 128)
    for _, entry in ipairs(page) do
      if tonumber(entry[2][8]) > now then
        call('XTRIM', key, 'MINID', entry[1])
        return
      end
      from = '(' .. entry[1]
    end
  until #page == 0
  call('XTRIM', key, 'MAXLEN', 0)
end

register('tidegate_revoke', {}, function(keys, args)
  local key, kind, what, keep_ms, lifts = keys[1], args[1], args[2], tonumber(args[3]), args[4] == '1'
  if #keys ~= 1 or not find(key, REVOCATIONS_KEY) then
    return error_reply('ERR the key is PREFIX:{registry}:revocations')
  end
  if not REVOCATION_KINDS[kind] or not what or what == '' or #what > REVOCATION_BYTES_MAX or not keep_ms or keep_ms < 1 then
    return error_reply('ERR arguments are token or session or user, WHAT, MS [, 1 to lift]')
  end
  local now = clock()
  trim_revocations(key, now)
  if call('XLEN', key) >= REVOCATIONS_MAX then
    return error_reply('BUSY there are ' .. REVOCATIONS_MAX .. ' revocations, and none has expired')
  end
  local at, keep_until = lifts and '0' or decimal(now), decimal(now + keep_ms)
  local id = call('XADD', key, '*', 'k', kind, 'w', what, 'a', at, 'u', keep_until)
  -- The key goes with the last of them.
  call('PEXPIRE', key, decimal(keep_ms), 'NX')
  call('PEXPIRE', key, decimal(keep_ms), 'GT')
  return id
end)

register('tidegate_revocations', { 'no-writes', 'allow-oom' }, function(keys, args)
  local key, after, count = keys[1], args[1], tonumber(args[2])
  local is_lost = after ~= '' and #call('XRANGE', key, after, after) == 0
  local from = (after == '' or is_lost) and '-' or '(' .. after
  local answer = { is_lost and '1' or '0' }
  for _, entry in ipairs(call('XRANGE', key, from, '+', 'COUNT', count)) do
    local n, fields = #answer, entry[2]
    answer[n + 1], answer[n + 2], answer[n + 3] = entry[1], fields[2], fields[4]
    answer[n + 4], answer[n + 5] = fields[6], fields[8]
  end
  return answer
end)
