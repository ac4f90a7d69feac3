-- tidegate_probe: a message from an instance to itself, which proves that Redis takes publishes and delivers them.
--
-- ARGV[1] channel  PREFIX:probe:INSTANCE, in a cluster PREFIX:probe:INSTANCE:{NUMBER}, of a slot of this node
-- ARGV[2] text     returned on the channel unchanged
-- →       the number of receivers
--
-- A plain PUBLISH is not enough: Redis accepts it on a read-only replica and when its disk is full. This function
-- writes nothing but is not declared read-only, so it is refused wherever a publish would be refused. The exception is
-- memory: a full Redis still delivers, and each publisher gets an error.
--
-- tidegate_version: { version, digest } of the loaded library.

local PROBE_CHANNEL = '^' .. NAME .. '+:probe:' .. NAME .. '+$'
local PROBE_CHANNEL_AT_NODE = '^' .. NAME .. '+:probe:' .. NAME .. '+:{%d+}$'

register('tidegate_probe', { 'allow-oom' }, function(_, args)
  if #args ~= 2 or not (find(args[1], PROBE_CHANNEL) or find(args[1], PROBE_CHANNEL_AT_NODE)) then
    return error_reply('ERR arguments are CHANNEL TEXT, the channel PREFIX:probe:INSTANCE or PREFIX:probe:INSTANCE:{NUMBER}')
  end
  return call(publish_command, args[1], args[2])
end)

register('tidegate_version', { 'no-writes', 'allow-oom', 'allow-stale' }, function() return { VERSION, DIGEST } end)
