-- tidegate_dead_letter: keeps a dead letter, once, however many instances bring it and however often.
--
-- KEYS[1] dead letters  PREFIX:{TENANT}:dead-letters
-- KEYS[2] seen          PREFIX:{TENANT}:dead-letters:seen
-- ARGV    id, most dead letters, ms they are kept, field, value [, field, value …]
-- →       the dead letter's entry id, or '' when one with this id has been kept before
--
-- The id tells a dead letter from all others: of a stored message it is its scope and position, which every instance
-- makes alike. Ids are remembered as long as dead letters are kept, the last SEEN_MAX of them, whether or not the dead letter
-- is still there: what an operator has dropped does not come back when the next client resumes.

local SEEN_MAX = 10000
local DEAD_LETTERS_KEY = '^' .. NAME .. '+:{' .. NAME .. '+}:dead%-letters$'

register('tidegate_dead_letter', {}, function(keys, args)
  local dead_letters, seen = keys[1], keys[2]
  if #keys ~= 2 or not find(dead_letters, DEAD_LETTERS_KEY) or seen ~= dead_letters .. ':seen' then
    return error_reply('ERR two keys are needed, PREFIX:{TENANT}:dead-letters and PREFIX:{TENANT}:dead-letters:seen')
  end
  local id, entries, ttl = args[1], tonumber(args[2]), tonumber(args[3])
  if #args < 5 or #args % 2 == 0 or id == '' or not entries or not ttl or entries < 1 or ttl < 1 then
    return error_reply('ERR arguments are ID ENTRIES_MAX TTL_MS FIELD VALUE [FIELD VALUE …]')
  end
  local now = clock()
  call('ZREMRANGEBYSCORE', seen, '-inf', '(' .. decimal(now - ttl))
  if call('ZADD', seen, 'NX', decimal(now), id) == 0 then
    return ''
  end
  call('ZREMRANGEBYRANK', seen, 0, -SEEN_MAX - 1)
  local fields = {}
  for i = 4, #args do
    fields[i - 3] = args[i]
  end
  local entry = pcall_redis('XADD', dead_letters, 'MAXLEN', entries, '*', unpack(fields))
  if type(entry) == 'table' then -- an error: it has not been kept
    call('ZREM', seen, id)
    return entry
  end
  call('XTRIM', dead_letters, 'MINID', decimal(now - ttl))
  call('PEXPIRE', dead_letters, decimal(ttl))
  call('PEXPIRE', seen, decimal(ttl))
  return entry
end)
