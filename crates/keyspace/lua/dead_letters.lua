-- tidegate_dead_letter: stores a dead letter once, however many instances report it and however often.
--
-- KEYS[1] dead letters  PREFIX:{TENANT}:dead-letters
-- KEYS[2] seen          PREFIX:{TENANT}:dead-letters:seen
-- ARGV    id, most dead letters, retention (ms), field, value [, field, value …]
-- →       the entry id of the dead letter, or '' if one with this id has been stored before
--
-- The id identifies the dead letter: for a stored message it is made from the scope and the position, so that every
-- instance makes the same one. Ids are remembered as long as dead letters are kept, the last SEEN_MAX of them, even if
-- the dead letter was removed: one that an operator has dropped does not return when the next client resumes.

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
  if type(entry) == 'table' then -- an error: it was not stored
    call('ZREM', seen, id)
    return entry
  end
  call('XTRIM', dead_letters, 'MINID', decimal(now - ttl))
  call('PEXPIRE', dead_letters, decimal(ttl))
  call('PEXPIRE', seen, decimal(ttl))
  return entry
end)
