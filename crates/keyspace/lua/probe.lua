-- tidegate_probe: a message from an instance to itself, which proves that Redis takes publishes and delivers them.
--
-- ARGV[1] channel  PREFIX:probe:INSTANCE, in a cluster PREFIX:probe:INSTANCE:{NUMBER}, of a slot of this node
-- ARGV[2] text     returned on the channel unchanged
-- →       the number of receivers
--
-- A gateway adds what it knows of its own library, and hears whether it must load it:
--
-- ARGV[3] digest, ARGV[4] precedence of its library, ARGV[5] ms until its next probe
-- →       { number of receivers, 1 if it must load its library else 0 }
--
-- Instances with other families have another library. The one with the highest precedence among those whose instances
-- are alive is loaded. An instance is alive while it probes.
--
-- A plain PUBLISH is not enough: Redis accepts it on a read-only replica and when its disk is full. This function
-- writes nothing but is not declared read-only, so it is refused wherever a publish would be refused. The exception is
-- memory: a full Redis still delivers, and each publisher gets an error.
--
-- tidegate_version: { version, digest, precedence } of the loaded library. The precedence is that of the living instance
-- that started last with it.

local PROBE_CHANNEL = '^' .. NAME .. '+:probe:' .. NAME .. '+$'
local PROBE_CHANNEL_AT_NODE = '^' .. NAME .. '+:probe:' .. NAME .. '+:{%d+}$'

-- A claim lapses after this many intervals without a probe.
local PROBES_MISSED_MAX = 4
-- Most libraries that are compared.
local CLAIMS_MAX = 64

-- Claims of instances, by the digest of their library: { precedence, lapses (ms) }. This process forgets them when the
-- library is replaced; nobody's claim counts as lapsed before the time in which it would have been heard again.
local claims, first_heard = {}, nil

local function claim(digest, precedence, lapses, now)
  local count = 0
  for other, held in pairs(claims) do
    count = count + 1
    if held.lapses <= now then
      claims[other] = nil
    end
  end
  local held = claims[digest]
  if held then
    held.precedence, held.lapses = max(held.precedence, precedence), max(held.lapses, lapses)
  elseif count < CLAIMS_MAX then
    claims[digest] = { precedence = precedence, lapses = lapses }
  end
end

-- Whether the instance with this library must load it.
local function must_load(digest, precedence, interval_ms)
  local now, patience = clock(), PROBES_MISSED_MAX * interval_ms
  first_heard = min(first_heard or now, now)
  claim(digest, precedence, now + patience, now)
  if digest == DIGEST then
    return false
  end
  local own = claims[DIGEST]
  if own or now < first_heard + patience then
    return precedence > max(PRECEDENCE, own and own.precedence or 0)
  end
  -- No instance has the loaded library any more.
  for other, held in pairs(claims) do
    if other ~= digest and held.precedence > precedence then
      return false
    end
  end
  return true
end

register('tidegate_probe', { 'allow-oom' }, function(_, args)
  local channel, digest, precedence, interval_ms = args[1], args[3], tonumber(args[4]), tonumber(args[5])
  local is_gateway = #args == 5 and precedence and interval_ms and find(digest, '^%x+$')
  if not (#args == 2 or is_gateway) or not (find(channel, PROBE_CHANNEL) or find(channel, PROBE_CHANNEL_AT_NODE)) then
    return error_reply('ERR arguments are CHANNEL TEXT [DIGEST PRECEDENCE INTERVAL_MS], the channel PREFIX:probe:INSTANCE'
      .. ' or PREFIX:probe:INSTANCE:{NUMBER}')
  end
  local receivers = call(publish_command, channel, args[2])
  return is_gateway and { receivers, must_load(digest, precedence, interval_ms) and 1 or 0 } or receivers
end)

register('tidegate_version', { 'no-writes', 'allow-oom', 'allow-stale' }, function()
  local own = claims[DIGEST]
  return { VERSION, DIGEST, own and max(PRECEDENCE, own.precedence) or PRECEDENCE }
end)
