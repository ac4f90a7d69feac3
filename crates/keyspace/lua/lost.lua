-- tidegate_lost: an instance has received a message that Redis has lost. The place of the loss is marked, so that every
-- instance reports a gap to a client that resumes from before it.
--
-- KEYS[1] stream, KEYS[2] metadata   as for tidegate_publish
-- ARGV[1] position   the newest lost position that was delivered
-- →       1 if the loss is marked, now or before
--         0 if there is nothing to mark: the message exists, was never stored, or no position before it is known
--
-- If nothing has been published since the loss, a generation is begun first, as a publish does: it separates what comes
-- after the loss from what came before.

-- Whether a position of generation `number` comes after what is left of `generation`: both are the same, or `number`
-- began in a later second and nothing of it is left. A generation of the same second may be older, from a scope that
-- has been erased since.
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
  local seen, bad = read_meta(meta, 'r', 'e')
  if seen and not is_list_of_ends(seen[4] or '') then
    bad = bad_scope(meta, 'has a field e that lists no generations')
  end
  if bad then
    return error_reply(bad)
  end
  local generation, offset, list = tonumber(seen[1] or nil), tonumber(seen[2] or nil), seen[4] or ''
  if not generation then
    return 0
  end
  local replid = replication_id()
  if generation == number and (seen[3] == replid or gone <= offset) then
    return 0
  end
  if precedes(generation, number) and seen[3] ~= replid then
    begin(stream, meta, replid, clock(), seen[1], offset)
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

-- Losses are recorded even if Redis has no memory left for messages.
register('tidegate_lost', { 'allow-oom' }, lost)
