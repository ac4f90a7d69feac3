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
      if (whole(entry[2][8]) or 0) > now then -- another program may have written anything
        call('XTRIM', key, 'MINID', entry[1])
        return
      end
      from = '(' .. entry[1]
    end
  until #page == 0
  call('XTRIM', key, 'MAXLEN', 0)
end

register('tidegate_revoke', {}, function(keys, args)
  local key, kind, what, keep_ms, lifts = keys[1], args[1], args[2], whole(args[3]), args[4] == '1'
  if #keys ~= 1 or not find(key, REVOCATIONS_KEY) then
    return error_reply('ERR the key is PREFIX:{registry}:revocations')
  end
  if not REVOCATION_KINDS[kind] or not what or what == '' or #what > REVOCATION_BYTES_MAX or not keep_ms or keep_ms < 1 then
    return error_reply('ERR arguments are token or session or user, WHAT, MS [, 1 to lift]')
  end
  local now = clock()
  keep_type(key, 'stream')
  trim_revocations(key, now)
  if call('XLEN', key) >= REVOCATIONS_MAX then
    return error_reply('BUSY there are ' .. REVOCATIONS_MAX .. ' revocations, and none has expired')
  end
  local at, keep_until = lifts and '0' or decimal(now), decimal(now + keep_ms)
  local id = call('XADD', key, '*', 'k', kind, 'w', what, 'a', at, 'u', keep_until)
  -- The key goes with the last of them. A key without an expiry counts as one that never expires.
  if call('XLEN', key) == 1 then
    call('PEXPIRE', key, decimal(keep_ms))
  else
    call('PEXPIRE', key, decimal(keep_ms), 'GT')
  end
  return id
end)

register('tidegate_revocations', { 'no-writes', 'allow-oom' }, function(keys, args)
  local key, after, count = keys[1], args[1], tonumber(args[2])
  -- The range begins with the entry itself: one after the highest id, which another program may add, is refused.
  local page, first = read_or({}, 'XRANGE', key, after == '' and '-' or after, '+', 'COUNT', count + 1), 2
  local is_lost = after ~= '' and not (page[1] and page[1][1] == after)
  if is_lost then
    page = read_or({}, 'XRANGE', key, '-', '+', 'COUNT', count)
  end
  if after == '' or is_lost then
    first = 1
  end
  local answer = { is_lost and '1' or '0' }
  for i = first, min(#page, first + count - 1) do
    local n, fields = #answer, page[i][2]
    answer[n + 1] = page[i][1]
    for j = 1, 4 do
      answer[n + 1 + j] = fields[2 * j] or '' -- another program may have written fewer
    end
  end
  return answer
end)
