-- Shared by publishing and reading: the names of a scope, its generations and its upkeep.
--
-- Fields of the metadata hash:
--   r  the master_replid under which the generation began
--   g  the generation            o  the newest offset given out in it
--   e  earlier generations, oldest first: "generation-top generation-top …", at most EARLIER_MAX; a + after one means
--      that messages above that top were delivered and then lost
--   d  time when upkeep is due (ms)
--   k  marks for trimming by age, oldest first: "ms:position …": every message up to the position was stored by
--      that time
--   i  the newest window in which a message had an id

-- Other programs may write anything into these fields. A scope whose fields are not those of this library is refused
-- with BADSCOPE, and its key is named; no other scope is affected.

-- Redis provides these only to running functions, not while a library is loaded. They are bound at the first call.
local call, pcall_redis, error_reply, pairs, tonumber, unpack
-- In a cluster a channel belongs to the node of its slot, like a key.
local publish_command
local byte, find, format, gmatch, gsub, match, sub, concat, floor, max, min

local function bind()
  call, pcall_redis, error_reply = redis.call, redis.pcall, redis.error_reply
  pairs, tonumber, unpack = _G.pairs, _G.tonumber, _G.unpack
  byte, find, format, gmatch = string.byte, string.find, string.format, string.gmatch
  gsub, match, sub = string.gsub, string.match, string.sub
  concat, floor, max, min = table.concat, math.floor, math.max, math.min
  -- Read once: a server does not join or leave a cluster while it runs.
  publish_command = find(call('INFO', 'cluster'), 'cluster_enabled:1', 1, true) and 'SPUBLISH' or 'PUBLISH'
end

local function register(name, flags, callback)
  redis.register_function {
    function_name = name,
    flags = flags,
    callback = function(keys, args)
      if not call then
        bind()
      end
      return callback(keys, args)
    end,
  }
end

local EARLIER_MAX = 16
-- How much longer than its stream the metadata is kept: a client that was away for a week still learns whether it
-- missed messages, and a scope that was quiet for less than that does not begin a new generation.
local META_GRACE_MS = 7 * 24 * 60 * 60 * 1000
-- How long a scope without a message is kept: anybody who may subscribe can begin any number of them. Gateways renew it
-- while they have subscribers.
local UNUSED_MS = 60 * 60 * 1000

local NAME = '[A-Za-z0-9_.@|=+~-]'
local STREAM_KEY = '^(' .. NAME .. '+:{' .. NAME .. '+/(' .. NAME .. '+)(:?)(' .. NAME .. '*)}):stream$'

-- Returns the pub/sub channel of the scope and the settings of its family, or nil and an error text. `count` is 2, or 4
-- with the keys for ids.
local function scope_of(keys, count)
  if #keys ~= count then
    return nil, 'ERR ' .. count .. ' keys are needed, PREFIX:{TENANT/FAMILY:ID}:stream and …:meta'
      .. (count == 4 and ', …:ids:0 and …:ids:1' or '')
  end
  local channel, name, colon, id = match(keys[1], STREAM_KEY)
  if not channel then
    return nil, 'ERR the first key is PREFIX:{TENANT/FAMILY:ID}:stream, such as tidegate:{default/user:42}:stream'
  end
  if keys[2] ~= channel .. ':meta' then
    return nil, 'ERR the second key belongs to the first: it is ' .. channel .. ':meta'
  end
  if count == 4 and (keys[3] ~= channel .. ':ids:0' or keys[4] ~= channel .. ':ids:1') then
    return nil, 'ERR the third and fourth keys belong to the first: ' .. channel .. ':ids:0 and ' .. channel .. ':ids:1'
  end
  local family = FAMILIES[name]
  if not family then
    return nil, 'ERR there is no channel family "' .. name .. '"; the gateways know ' .. FAMILY_NAMES
  end
  if family.keyed and id == '' then
    return nil, 'ERR the family "' .. name .. '" has ids: the first key is PREFIX:{TENANT/' .. name .. ':ID}:stream'
  end
  if not family.keyed and colon ~= '' then
    return nil, 'ERR the family "' .. name .. '" has no ids: the first key is PREFIX:{TENANT/' .. name .. '}:stream'
  end
  return channel, family
end

local function clock()
  local time = call('TIME')
  return time[1] * 1000 + floor(time[2] / 1000)
end

-- Lua's own notation loses digits of whole numbers above 10^14.
local function decimal(number)
  return format('%.0f', number)
end

-- Returns the number if `text` is a whole number that Lua represents exactly, else nil.
local WHOLE_MAX = 9e15
local function whole(text)
  local number = text and #text <= 16 and find(text, '^%d+$') and tonumber(text)
  return number and number <= WHOLE_MAX and number or nil
end

-- Whether `text` is a position, "generation-offset".
local function is_position(text)
  local generation, offset = match(text, '^(%d+)-(%d+)$')
  return whole(generation) and whole(offset) and true
end

-- Whether `text` lists earlier generations.
local function is_list_of_ends(text)
  for entry in gmatch(text, '[^ ]+') do
    if not is_position(match(entry, '^(.-)%+?$')) then
      return false
    end
  end
  return true
end

local function bad_scope(key, why)
  return 'BADSCOPE ' .. key .. ' ' .. why .. ': another program has written it; delete the key'
end

-- Returns the error text for a command on `key` that Redis refused. Only a value of another type is another program's: a
-- missing permission, for example, is reported as it is.
local function refused_at(key, why, reply)
  return find(reply.err, '^WRONGTYPE') and bad_scope(key, why) or reply.err
end

-- Reads fields of the metadata. The fields must begin with g and o, and name e if its content is needed. Returns nil and
-- an error text if they are not those of this library.
local function read_meta(meta, ...)
  local seen = pcall_redis('HMGET', meta, 'g', 'o', ...)
  if seen.err then
    return nil, refused_at(meta, 'is no hash', seen)
  end
  if seen[1] and not (whole(seen[1]) and whole(seen[2])) then
    return nil, bad_scope(meta, 'has fields g and o that are no position')
  end
  return seen
end

-- The generations that this process began and that the clock has not passed yet, by metadata key. A scope that is
-- erased (FLUSHALL, DEL) and used again at once must not give out the same positions twice.
local begun, begun_second = {}, 0

local function remember(meta, generation, second)
  if second ~= begun_second then
    local ahead = {}
    for key, number in pairs(begun) do
      if number >= second * 65536 then
        ahead[key] = number
      end
    end
    begun, begun_second = ahead, second
  end
  begun[meta] = generation
end

-- Adds one generation to the earlier ones. Only the last EARLIER_MAX are kept.
local function extend(earlier, generation, top)
  earlier = earlier .. (earlier == '' and '' or ' ') .. generation .. '-' .. top
  local _, spaces = gsub(earlier, ' ', ' ')
  return spaces < EARLIER_MAX and earlier or match(earlier, ' (.*)')
end

-- Returns the generation of the stream's last id, which XADD must exceed; 0 without a stream.
local function last_generation(stream)
  local info = pcall_redis('XINFO', 'STREAM', stream)
  for i = 1, #info, 2 do
    if info[i] == 'last-generated-id' then
      return tonumber(match(info[i + 1], '^%d+'))
    end
  end
  return 0
end

-- Begins a generation above `old`. It consists of the time (s) and the first 16 bits of the replication id. Returns it
-- as text. If the clock is not past the old one, the next second is used and the bits of the id are kept: the other
-- side of a failover would also use old + 1, and then one position would name two messages.
local function begin(stream, meta, replid, now, old, top)
  local second, id_bits, earlier = floor(now / 1000), tonumber(sub(replid, 1, 4), 16), ''
  local newest
  if old then
    earlier, newest = extend(call('HGET', meta, 'e') or '', old, top), tonumber(old)
  else
    -- The scope was erased or never existed; its stream may still exist. The milliseconds are added, because neither
    -- the replication id nor, if the library was loaded again since, the memory of this process differs from that of
    -- the erased scope.
    id_bits = (id_bits + now % 1000 * 64) % 65536
    newest = max(begun[meta] or 0, last_generation(stream))
  end
  local generation = second * 65536 + id_bits
  if generation <= newest then
    generation = (floor(newest / 65536) + 1) * 65536 + id_bits
  end
  remember(meta, generation, second)
  local text = decimal(generation)
  -- Upkeep is due at once: its planned time may come from another clock.
  call('HSET', meta, 'r', replid, 'g', text, 'o', 0, 'e', earlier, 'd', 0)
  if not old then
    call('PEXPIRE', meta, UNUSED_MS)
  end
  return text
end

-- The replication id changes whenever this Redis may have lost writes: at every restart and promotion. It is read in
-- every call: a cached copy would miss the change.
local function replication_id()
  return match(call('INFO', 'replication'), 'master_replid:(%x+)')
end

-- Extends the life of the keys and drops messages that are older than the family's TTL. It runs once per TTL / 8. The
-- keys live that much longer, and messages are stored at most that much longer than reads return them.
local function upkeep(stream, meta, family, now, position)
  local kept, expired = {}, nil
  for at, upto in gmatch(call('HGET', meta, 'k') or '', '(%d+):(%d+%-%d+)') do
    local stored = is_position(upto) and whole(at)
    if not stored then -- another program has written it
    elseif stored <= now - family.ttl then
      expired = upto
    else
      kept[#kept + 1] = at .. ':' .. upto
    end
  end
  kept[#kept + 1] = decimal(now) .. ':' .. position
  if expired then
    -- A family without history has no stream of its own to trim: another program's must not refuse its messages.
    (family.entries > 0 and call or pcall_redis)('XTRIM', stream, 'MINID', expired)
  end
  call('HSET', meta, 'k', concat(kept, ' '), 'd', decimal(now + family.step))
  call('PEXPIRE', stream, decimal(family.ttl + family.step))
  call('PEXPIRE', meta, decimal(family.ttl + family.step + META_GRACE_MS))
end
