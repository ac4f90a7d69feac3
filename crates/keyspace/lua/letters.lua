-- tidegate_letter: keeps a dead letter, once, however many instances bring it and however often.
--
-- KEYS[1] letters  PREFIX:{TENANT}:letters
-- KEYS[2] seen     PREFIX:{TENANT}:letters:seen
-- ARGV    id, most letters, ms they are kept, field, value [, field, value …]
-- →       the letter's entry id, or '' when one with this id has been kept before
--
-- The id tells a letter from all others: of a stored message it is its scope and position, which every instance
-- makes alike. Ids are remembered as long as letters are kept, the last SEEN_MAX of them, whether or not the letter
-- is still there: what an operator has dropped does not come back when the next client resumes.

local SEEN_MAX = 10000
local LETTERS_KEY = '^' .. NAME .. '+:{' .. NAME .. '+}:letters$'

register('tidegate_letter', {}, function(keys, args)
  local letters, seen = keys[1], keys[2]
  if #keys ~= 2 or not find(letters, LETTERS_KEY) or seen ~= letters .. ':seen' then
    return error_reply('ERR two keys are needed, PREFIX:{TENANT}:letters and PREFIX:{TENANT}:letters:seen')
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
  local entry = pcall_redis('XADD', letters, 'MAXLEN', entries, '*', unpack(fields))
  if type(entry) == 'table' then -- an error: it has not been kept
    call('ZREM', seen, id)
    return entry
  end
  call('XTRIM', letters, 'MINID', decimal(now - ttl))
  call('PEXPIRE', letters, decimal(ttl))
  call('PEXPIRE', seen, decimal(ttl))
  return entry
end)
