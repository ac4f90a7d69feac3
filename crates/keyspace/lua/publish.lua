-- tidegate_publish: stores and publishes messages of one scope, all or none, and returns the last one's position.
--
-- KEYS[1] stream    PREFIX:{TENANT/FAMILY:ID}:stream
-- KEYS[2] metadata  PREFIX:{TENANT/FAMILY:ID}:meta
-- ARGV    topic, message [, topic, message …]   1 to 64 pairs; the topic may be empty
-- →       "generation-offset" of the last message
--
-- Stored first: when Redis takes no writes, nothing has been published. An id against duplicates will be a
-- function of its own with a third key, because the number of arguments here says how many messages there are.

local BATCH_MESSAGES_MAX = 64
local BATCH_BYTES_MAX = 16 * 1024 * 1024
local TOPIC_BYTES_MAX = 256
local NOT_IN_TOPIC = '[^A-Za-z0-9_.@|=+~:-]'
local BRACE, BINARY_V1 = 123, 1

-- What is wrong with the messages, or nil.
local function complaint(args)
  local count = #args
  if count == 0 or count % 2 == 1 or count > 2 * BATCH_MESSAGES_MAX then
    return 'ERR arguments are TOPIC MESSAGE pairs, 1 to ' .. BATCH_MESSAGES_MAX .. ' of them; the topic may be empty'
  end
  local bytes = 0
  for i = 1, count, 2 do
    local topic, message = args[i], args[i + 1]
    if topic ~= '' then
      if #topic > TOPIC_BYTES_MAX or find(topic, NOT_IN_TOPIC) or find(':' .. topic .. ':', '::', 1, true) then
        return 'ERR a topic is empty or names joined by colons, at most ' .. TOPIC_BYTES_MAX
          .. ' bytes of letters, digits and _ . @ | = + ~ -; topic ' .. (i + 1) / 2 .. ' is not'
      end
    end
    local head = byte(message)
    if head ~= BRACE and head ~= BINARY_V1 then
      return 'ERR a message is a JSON object, {"type":"…","payload":…}, or a binary frame; message '
        .. (i + 1) / 2 .. ' is neither'
    end
    bytes = bytes + #message
  end
  if bytes > BATCH_BYTES_MAX then
    return 'ERR messages of one call have at most ' .. BATCH_BYTES_MAX .. ' bytes together; these have ' .. bytes
  end
end

local function publish(keys, args)
  local channel, family = scope_of(keys)
  if not channel then
    return error_reply(family)
  end
  local wrong = complaint(args)
  if wrong then
    return error_reply(wrong)
  end
  local stream, meta, count, entries = keys[1], keys[2], #args, family.entries
  local now, replid = clock(), replication_id()
  local seen = call('HMGET', meta, 'r', 'g', 'o', 'd')
  local generation, offset, due = seen[2], tonumber(seen[3]), tonumber(seen[4] or 0)
  if seen[1] ~= replid then
    generation, offset = begin(stream, meta, replid, now, generation, offset), 0
    due = 0
  end

  local stamp, dash = decimal(now), generation .. '-'
  local envelope = { '1 ' .. generation .. ' ' .. offset + 1 .. ' ' .. stamp .. '\n' }
  for i = 1, count, 2 do
    local topic, message = args[i], args[i + 1]
    offset = offset + 1
    if entries > 0 then
      if i + 1 == count then -- trimming once per call is enough
        call('XADD', stream, 'MAXLEN', '~', entries, dash .. offset, 't', stamp, 'c', topic, 'm', message)
      else
        call('XADD', stream, dash .. offset, 't', stamp, 'c', topic, 'm', message)
      end
    end
    envelope[i + 1] = topic .. ' ' .. #message .. '\n'
    envelope[i + 2] = message
  end
  call('HSET', meta, 'o', offset)
  -- The second half: Redis' clock was set back.
  if now >= due or now < due - 2 * family.step then
    upkeep(stream, meta, family, now, dash .. offset)
  end
  call('PUBLISH', channel, concat(envelope))
  return dash .. offset
end

register('tidegate_publish', {}, publish)
