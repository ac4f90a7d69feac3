-- tidegate_read: where a scope stands, and what it keeps behind a position. Writes nothing (FCALL_RO).
-- tidegate_open: the same for a scope that nobody has used: begins its first generation.
--
-- KEYS[1] stream, KEYS[2] metadata   as for tidegate_publish
-- ARGV[1] after        a position, or '' for no entries
-- ARGV[2] entries_max  at most so many entries in one answer
-- →       { top, { "generation-top" of earlier generations, oldest first, with a + where messages behind it were lost },
--           { { position, time ms, topic, message }, oldest first }, 1 if there are more else 0 }
--         tidegate_read answers nil for a scope that has not begun.
--
-- When the replication id has changed and nothing has been published since, the top is the old generation's:
-- no more will be stored in that one, and what a later generation holds lies behind it.

local ANSWER_BYTES_MAX = 1024 * 1024
local ANSWER_ENTRIES_MAX = 10000

-- Entries fetched first. XRANGE gives whole messages, and 1 MiB costs Redis 2 ms: five hundred of them fetched to find
-- that two fill the answer would stop it for seconds. A page of small ones takes four rounds.
local FETCH_FIRST, FETCH_GROWTH = 4, 8

-- Fills `entries`; returns whether there are more. What is past its time is skipped: it has expired, and upkeep
-- has not come to it yet.
local function collect(entries, stream, after, entries_max, expired)
  local start, bytes, count = '(' .. after, 0, FETCH_FIRST
  local fetched, fetched_bytes = 0, 0
  while true do
    count = min(count, entries_max + 1 - #entries) -- one more shows that there are more
    local page = call('XRANGE', stream, start, '+', 'COUNT', count)
    for i = 1, #page do
      local id, fields = page[i][1], page[i][2]
      local size = #(fields[6] or '')
      fetched, fetched_bytes = fetched + 1, fetched_bytes + size
      if fields[1] == 't' and tonumber(fields[2]) > expired then
        if #entries == entries_max or bytes > ANSWER_BYTES_MAX then
          return 1
        end
        entries[#entries + 1] = { id, fields[2], fields[4], fields[6] }
        bytes = bytes + size
      end
      start = '(' .. id
    end
    if #page < count then
      return 0
    end
    -- No more than will fit if the next are as large as these were.
    local room = floor(max(ANSWER_BYTES_MAX - bytes, 0) * fetched / max(fetched_bytes, 1)) + 2
    count = min(count * FETCH_GROWTH, room)
  end
end

local function read(keys, args, opening)
  local channel, family = scope_of(keys, 2)
  if not channel then
    return error_reply(family)
  end
  local after, entries_max = args[1], args[2]
  if #args ~= 2 or not (after == '' or find(after, '^%d+%-%d+$')) or not find(entries_max, '^%d+$') then
    return error_reply('ERR arguments are AFTER ENTRIES_MAX: a position such as 7-42 or nothing, and a number')
  end
  local stream, meta = keys[1], keys[2]
  local seen = call('HMGET', meta, 'g', 'o', 'e')
  local generation, offset, list = seen[1], seen[2], seen[3] or ''
  if not generation then
    if not opening then
      return nil
    end
    local now = clock()
    generation, offset = begin(stream, meta, replication_id(), now), '0'
    call('PEXPIRE', meta, decimal(family.ttl + family.step + META_GRACE_MS))
  end
  local earlier, entries, more = {}, {}, 0
  for position in gmatch(list, '[^ ]+') do
    earlier[#earlier + 1] = position
  end
  if after ~= '' then
    more = collect(entries, stream, after, min(tonumber(entries_max), ANSWER_ENTRIES_MAX), clock() - family.ttl)
  end
  return { generation .. '-' .. offset, earlier, entries, more }
end

register('tidegate_read', { 'no-writes', 'allow-oom' }, function(keys, args) return read(keys, args, false) end)
register('tidegate_open', {}, function(keys, args) return read(keys, args, true) end)
