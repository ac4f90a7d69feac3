-- tidegate_lost: an instance was handed a message that is not there any more. Where it stood is marked, so that whoever
-- comes back from before it is told of a gap, by any instance.
--
-- KEYS[1] stream, KEYS[2] metadata   as for tidegate_publish
-- ARGV[1] position   the newest one that was handed on and is gone
-- →       1 if it is marked, now or before
--         0 if there is nothing to mark: it is there, or was never stored, or no position from before it is known
--
-- If nothing has been published since, a generation is begun first, as a publish would: what stands behind the loss is
-- told by it from what stood before.

-- Whether what stood in generation `number` came behind what is left of this one: it is the same, or a later one of
-- which nothing is left. One of the same second may be older, of a scope that was erased since.
local function precedes(generation, number)
  return generation == number or floor(generation / 65536) < floor(number / 65536)
end

local function lost(keys, args)
  local channel, family = scope_of(keys, 2)
  if not channel then
    return error_reply(family)
  end
  local number, gone = match(args[1] or '', '^(%d+)%-(%d+)$')
  if #args ~= 1 or not number then
    return error_reply('ERR the argument is a position such as 7-42')
  end
  number, gone = tonumber(number), tonumber(gone)
  local stream, meta = keys[1], keys[2]
  local seen = call('HMGET', meta, 'r', 'g', 'o', 'e')
  local generation, offset, list = tonumber(seen[2]), tonumber(seen[3]), seen[4] or ''
  if not generation then
    return 0
  end
  local replid = replication_id()
  if generation == number and (seen[1] == replid or gone <= offset) then
    return 0
  end
  if precedes(generation, number) and seen[1] ~= replid then
    begin(stream, meta, replid, clock(), seen[2], offset)
    list = call('HGET', meta, 'e')
  end
  local earlier, place = {}, nil
  for entry in gmatch(list, '[^ ]+') do
    earlier[#earlier + 1] = entry
    if precedes(tonumber(match(entry, '^%d+')), number) then
      place = #earlier
    end
  end
  if not place then
    return 0
  end
  local last, top, marked = match(earlier[place], '^(%d+)%-(%d+)(%+?)$')
  if tonumber(last) == number and gone <= tonumber(top) then
    return 0
  end
  if marked == '' then
    earlier[place] = earlier[place] .. '+'
    call('HSET', meta, 'e', concat(earlier, ' '))
  end
  return 1
end

-- Where there is no memory left for messages, what was lost is still to be told.
register('tidegate_lost', { 'allow-oom' }, lost)
