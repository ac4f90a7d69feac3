-- tidegate_read: the newest position of a scope, and the messages that it keeps after a position. Writes nothing
-- (FCALL_RO).
-- tidegate_open: the same; if the scope has not been used, begins its first generation. A scope without a message is
-- kept for an hour after it was opened.
--
-- KEYS[1] stream, KEYS[2] metadata   as for tidegate_publish
-- ARGV[1] after        a position, or '' for no entries
-- ARGV[2] entries_max  most entries in the answer
-- →       { top, { "generation-top" of earlier generations, oldest first, with a + if messages above it were lost },
--           { { position, time ms, topic, message }, oldest first }, 1 if there are more else 0 }
--         tidegate_read answers nil for a scope that has not begun.
--
-- If the replication id has changed and nothing has been published since, the top is that of the old generation. No
-- message will be added to that generation, and the messages of later generations come after it.

local ANSWER_BYTES_MAX = 1024 * 1024
local ANSWER_ENTRIES_MAX = 10000

-- Number of entries in the first fetch. XRANGE returns whole messages, and 1 MiB costs Redis 2 ms: to fetch five
-- hundred large messages, of which two fill the answer, would block it for seconds. A page of small messages takes four
-- rounds.
local FETCH_FIRST, FETCH_GROWTH = 4, 8

-- Returns where a range after a position begins, or nil if this library has given out no position above it. Clients name
-- any position, and XRANGE refuses some: those above 64 bits, and the highest one.
local function start_after(position)
  local generation, offset = match(position, '^0*(%d+)%-0*(%d+)$')
  if whole(offset) then
    return whole(generation) and '(' .. generation .. '-' .. offset
  end
  generation = whole(generation)
  return generation and decimal(generation + 1) .. '-0'
end

-- Fills `entries`; returns 1 if there are more, else 0, or nil and an error text. Messages older than `expired` are skipped: upkeep has not
-- removed them yet.
local function collect(entries, stream, after, entries_max, expired)
  local start, bytes, count = start_after(after), 0, FETCH_FIRST
  local fetched, fetched_bytes = 0, 0
  while start do
    count = min(count, entries_max + 1 - #entries) -- one more than needed shows whether there are more
    local page = pcall_redis('XRANGE', stream, start, '+', 'COUNT', count)
    if page.err then
      return nil, refused_at(stream, 'is no stream', page)
    end
    for i = 1, #page do
      local id, fields = page[i][1], page[i][2]
      local size = #(fields[6] or '')
      fetched, fetched_bytes = fetched + 1, fetched_bytes + size
      -- An entry with other fields is not a message.
      local time = fields[1] == 't' and fields[3] == 'c' and fields[5] == 'm' and whole(fields[2])
      if time and time > expired then
        if #entries == entries_max or bytes > ANSWER_BYTES_MAX then
          return 1
        end
        entries[#entries + 1] = { id, fields[2], fields[4], fields[6] }
        bytes = bytes + size
      end
    end
    if #page < count then
      return 0
    end
    start = start_after(page[#page][1])
    -- Fetch no more than fit into the answer if the next messages are as large as these.
    local room = floor(max(ANSWER_BYTES_MAX - bytes, 0) * fetched / max(fetched_bytes, 1)) + 2
    count = min(count * FETCH_GROWTH, room)
  end
  return 0
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
  local seen, bad = read_meta(meta, 'e')
  if seen and not is_list_of_ends(seen[3] or '') then
    bad = bad_scope(meta, 'has a field e that lists no generations')
  end
  if bad then
    return error_reply(bad)
  end
  local generation, offset, list = seen[1], seen[2], seen[3] or ''
  if not generation then
    if not opening then
      return nil
    end
    generation, offset = begin(stream, meta, replication_id(), clock()), '0'
  elseif opening and offset == '0' then
    call('PEXPIRE', meta, UNUSED_MS, 'GT')
  end
  local earlier, entries, more = {}, {}, 0
  for position in gmatch(list, '[^ ]+') do
    earlier[#earlier + 1] = position
  end
  if after ~= '' then
    more, bad = collect(entries, stream, after, min(tonumber(entries_max), ANSWER_ENTRIES_MAX), clock() - family.ttl)
    if bad then
      return error_reply(bad)
    end
  end
  return { generation .. '-' .. offset, earlier, entries, more }
end

register('tidegate_read', { 'no-writes', 'allow-oom' }, function(keys, args) return read(keys, args, false) end)
register('tidegate_open', {}, function(keys, args) return read(keys, args, true) end)
