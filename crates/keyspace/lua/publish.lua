-- tidegate_publish: stores and publishes messages of one scope, all or none, and returns the position of the last one.
--
-- KEYS[1] stream    PREFIX:{TENANT/FAMILY:ID}:stream
-- KEYS[2] metadata  PREFIX:{TENANT/FAMILY:ID}:meta
-- ARGV    topic, message [, topic, message …]   1 to 64 pairs; the topic may be empty
-- →       "generation-offset" of the last message
--
-- tidegate_publish_once: the same for messages with ids. A message with a known id is neither stored nor published.
--
-- KEYS[1], KEYS[2]  as above
-- KEYS[3] ids of even windows  PREFIX:{TENANT/FAMILY:ID}:ids:0
-- KEYS[4] ids of odd windows   PREFIX:{TENANT/FAMILY:ID}:ids:1
-- ARGV    topic, message, id [, topic, message, id …]   1 to 64 of each; an empty id means none
-- →       { position, 0 [, position, 0 …] } for each message in order; for a known id, the position of the stored
--         message and 1
--
-- tidegate_relay, tidegate_relay_once: the same, for gateways and tools, which have checked their messages themselves.
-- tidegate_publish and tidegate_publish_once check each message as a gateway does when it delivers it (validate.lua), and
-- refuse all messages of a call if one of them would reach nobody.
--
-- Messages are stored first: if Redis accepts no writes, nothing has been published. An id is written in the same step
-- as its message. An event that loses one of them (a failover, FLUSHALL) loses the other too, and a retry stores it
-- again.
--
-- The last XADD of a call trims the stream to the family's number of entries: exactly ('=') in a small family, and
-- otherwise by whole nodes ('~'), which costs Redis less and leaves up to one node more.

local BATCH_MESSAGES_MAX = 64
local BATCH_BYTES_MAX = 16 * 1024 * 1024
local TOPIC_BYTES_MAX = 256
local ID_BYTES_MAX = 300
local NOT_IN_TOPIC = '[^A-Za-z0-9_.@|=+~:-]'
local BINARY_V1 = 1

-- Ids are kept in two hashes that alternate, each for one window (WINDOW_MS) and the next one. An id is known for at
-- least one window, and Redis expires a whole hash instead of one key per id. Field i of the metadata is the newest
-- window.

-- Returns an error text about the messages, or nil. Arguments come in groups of `width`: topic, message and perhaps id.
local function complaint(args, width, is_checked)
  local count = #args
  if count == 0 or count % width ~= 0 or count > width * BATCH_MESSAGES_MAX then
    return 'ERR arguments are TOPIC MESSAGE ' .. (width == 2 and 'pairs' or 'ID triples') .. ', 1 to '
      .. BATCH_MESSAGES_MAX .. ' of them; the topic may be empty'
  end
  local bytes = 0
  for i = 1, count, width do
    local topic, message = args[i], args[i + 1]
    if topic ~= '' then
      if #topic > TOPIC_BYTES_MAX or find(topic, NOT_IN_TOPIC) or find(':' .. topic .. ':', '::', 1, true) then
        return 'ERR a topic is empty or names joined by colons, at most ' .. TOPIC_BYTES_MAX
          .. ' bytes of letters, digits and _ . @ | = + ~ -; topic ' .. (i - 1) / width + 1 .. ' is not'
      end
    end
    local head = byte(message)
    if head ~= BRACE and head ~= BINARY_V1 then
      return 'ERR a message is a JSON object, {"type":"…","payload":…}, or a binary frame; message '
        .. (i - 1) / width + 1 .. ' is neither'
    end
    local wrong = not is_checked and content_complaint(message)
    if wrong then
      return 'ERR message ' .. (i - 1) / width + 1 .. ' ' .. wrong
    end
    if width == 3 and #args[i + 2] > ID_BYTES_MAX then
      return 'ERR an id has at most ' .. ID_BYTES_MAX .. ' bytes; id ' .. (i - 1) / width + 1 .. ' has more'
    end
    bytes = bytes + #message
  end
  if bytes > BATCH_BYTES_MAX then
    return 'ERR messages of one call have at most ' .. BATCH_BYTES_MAX .. ' bytes together; these have ' .. bytes
  end
end

-- Returns the positions of stored messages with these ids: id → position. `window` is the current window, `newest` the
-- last one with ids. Returns nil and an error text if a key is no hash: nothing has been written by then.
local function known_positions(args, even, odd, window, newest)
  local known, ids = {}, {}
  for i = 3, #args, 3 do
    if args[i] ~= '' then
      ids[#ids + 1] = args[i]
    end
  end
  if #ids > 0 then
    local in_even, in_odd = pcall_redis('HMGET', even, unpack(ids)), pcall_redis('HMGET', odd, unpack(ids))
    if in_even.err or in_odd.err then
      return nil, refused_at(in_even.err and even or odd, 'is no hash', in_even.err and in_even or in_odd)
    end
    for i = 1, newest >= window - 1 and #ids or 0 do
      local position = in_even[i] or in_odd[i]
      known[ids[i]] = position and is_position(position) and position or nil
    end
  end
  return known
end

-- Adds field and value for each new id, and sets the expiry of the hash.
local function keep_ids(ids, fields, meta, window, newest)
  call('HSET', ids, unpack(fields))
  if newest ~= window then
    call('PEXPIREAT', ids, decimal((window + 2) * WINDOW_MS))
    call('HSET', meta, 'i', window)
  end
end

-- Adds an entry. If nothing of the call has been stored before, returns the error of a stream that does not accept it.
local function add(stored, stream, ...)
  local entry = (stored and call or pcall_redis)('XADD', stream, ...)
  if entry.err then
    -- Another type, or the id of an entry that another program has added.
    local is_foreign = find(entry.err, '^WRONGTYPE') or find(entry.err, 'equal or smaller') or find(entry.err, 'exhausted')
    return error_reply(is_foreign and bad_scope(stream, 'accepts no entry (' .. entry.err .. ')') or entry.err)
  end
end

local function publish(keys, args, width, is_checked)
  local channel, family = scope_of(keys, width == 2 and 2 or 4)
  if not channel then
    return error_reply(family)
  end
  local wrong = complaint(args, width, is_checked)
  if wrong then
    return error_reply(wrong)
  end
  local stream, meta, count, entries = keys[1], keys[2], #args, family.entries
  local now, replid = clock(), replication_id()
  local seen, bad = read_meta(meta, 'r', 'd', 'i')
  local known, fields, answer, window, newest
  if seen and width == 3 then
    window, newest, fields, answer = floor(now / WINDOW_MS), whole(seen[5]) or 0, {}, {}
    known, bad = known_positions(args, keys[3], keys[4], window, newest)
  end
  if bad then
    return error_reply(bad)
  end
  local generation, offset, due = seen[1], whole(seen[2]), whole(seen[4]) or 0
  if not generation or seen[3] ~= replid then
    generation, offset, due = begin(stream, meta, replid, now, generation, offset), 0, 0
  end
  local before, stamp, dash = offset, decimal(now), generation .. '-'
  local last_position, last_topic, last_message
  local stored = false
  local envelope, parts = { '1 ' .. generation .. ' ' .. offset + 1 .. ' ' .. stamp .. '\n' }, 1
  for i = 1, count, width do
    local id = known and args[i + 2]
    local position = id and known[id]
    if position then
      answer[#answer + 1], answer[#answer + 2] = position, 1
    else
      local topic, message = args[i], args[i + 1]
      offset = offset + 1
      position = dash .. offset
      if entries > 0 then
        -- Each message is added one step late: the last XADD of the call trims, and only then is it known to be the last.
        if last_position then
          local refused = add(stored, stream, last_position, 't', stamp, 'c', last_topic, 'm', last_message)
          if refused then
            return refused
          end
          stored = true
        end
        last_position, last_topic, last_message = position, topic, message
      end
      envelope[parts + 1] = topic .. ' ' .. #message .. '\n'
      envelope[parts + 2] = message
      parts = parts + 2
      if id then
        answer[#answer + 1], answer[#answer + 2] = position, 0
        if id ~= '' then
          known[id] = position
          fields[#fields + 1], fields[#fields + 2] = id, position
        end
      end
    end
  end
  if offset == before then
    return answer
  end
  if last_position then
    local refused =
      add(stored, stream, 'MAXLEN', family.trim, entries, last_position, 't', stamp, 'c', last_topic, 'm', last_message)
    if refused then
      return refused
    end
  end
  call('HSET', meta, 'o', offset)
  if fields and #fields > 0 then
    keep_ids(keys[3 + window % 2], fields, meta, window, newest)
  end
  -- The second condition: Redis' clock was set back.
  if now >= due or now < due - 2 * family.step then
    upkeep(stream, meta, family, now, dash .. offset)
  end
  call(publish_command, channel, concat(envelope))
  return answer or dash .. offset
end

register('tidegate_publish', {}, function(keys, args) return publish(keys, args, 2, false) end)
register('tidegate_publish_once', {}, function(keys, args) return publish(keys, args, 3, false) end)
register('tidegate_relay', {}, function(keys, args) return publish(keys, args, 2, true) end)
register('tidegate_relay_once', {}, function(keys, args) return publish(keys, args, 3, true) end)
