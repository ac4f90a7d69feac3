-- What a gateway demands of a message when it delivers it (crate wire, `Message::parse`). A publisher hears here that its
-- message would reach nobody.
--
-- Most messages are plain: ASCII without control characters, and each field once. Only others are looked at character by
-- character.

local BRACE = 123
local TYPE_BYTES_MAX = 128
local HEADER_BYTES_MAX = 65535 - 1024
local FIELDS = { ['type'] = true, payload = true, timestamp = true, correlation_id = true }
local CONTROL_TYPES = {
  hello = true, welcome = true, restored = true, subscribe = true, subscribed = true, unsubscribe = true,
  unsubscribed = true, publish = true, ack = true, error = true, receipt = true, presence = true, joined = true,
  left = true, refresh = true, refreshed = true, ping = true, pong = true, position = true, gap = true,
  degraded = true, reconnect = true, notice = true, bye = true,
}
local DAYS = { 31, 29, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31 }

-- A decoder with settings of its own: cjson is shared by all functions of the server.
local json

local function decode_strictly(text)
  if not json then
    json = cjson.new()
    json.decode_max_depth(DEPTH_MAX)
    json.decode_invalid_numbers(false)
  end
  return json.decode(text)
end

-- Whether `text` is RFC 3339, of a day and a time that exist.
local function is_timestamp(text)
  local year, month, day, hour, minute, second, rest =
    match(text, '^(%d%d%d%d)%-(%d%d)%-(%d%d)T(%d%d):(%d%d):(%d%d)(.*)$')
  if not year then
    return false
  end
  local fraction, zone = match(rest, '^%.(%d+)(.*)$')
  if fraction and #fraction > 9 then
    return false
  end
  zone = zone or rest
  local zone_hour, zone_minute = match(zone, '^[+-](%d%d):(%d%d)$')
  year, month, day = tonumber(year), tonumber(month), tonumber(day)
  local is_leap = year % 4 == 0 and (year % 100 ~= 0 or year % 400 == 0)
  local days = month == 2 and not is_leap and 28 or DAYS[month]
  return (zone == 'Z' or (zone_hour and zone_hour < '24' and zone_minute < '60'))
    and days and day >= 1 and day <= days and hour < '24' and minute < '60'
    -- Second 60 is a leap second. It ends an hour, half an hour or a quarter, by zone.
    and (second < '60' or second == '60' and tonumber(minute) % 15 == 14)
end

-- Returns what is wrong with the characters of valid JSON, or nil: cjson accepts control characters in strings, bytes
-- that are not UTF-8, and numbers that begin or end with a point.
local function character_complaint(text)
  local continuations = 0
  for lead, rest in gmatch(text, '([\192-\255])([\128-\191]*)') do
    local first, second, count = byte(lead), byte(rest) or 0, #rest
    continuations = continuations + count
    if not (first >= 194 and first <= 223 and count == 1
      or first >= 224 and first <= 239 and count == 2
        and (first ~= 224 or second >= 160) and (first ~= 237 or second <= 159)
      or first >= 240 and first <= 244 and count == 3
        and (first ~= 240 or second >= 144) and (first ~= 244 or second <= 143)) then
      return 'has bytes that are not UTF-8'
    end
  end
  if select(2, gsub(text, '[\128-\191]', '')) ~= continuations then
    return 'has bytes that are not UTF-8'
  end
  local bare = gsub(text, '\\.', '__')
  for content in gmatch(bare, '"([^"]*)"') do
    if find(content, '[%z\1-\31]') then
      return 'has a control character in a string'
    end
  end
  local outside = gsub(bare, '"[^"]*"', '""')
  if find(outside, '%D%.') or find(outside, '%.%D') then
    return 'has a number that begins or ends with a point'
  end
end

-- Whether the object in `text` has a field twice. `text` is valid JSON.
local function has_duplicates(text)
  local bare, seen, depth, at = gsub(text, '\\.', '__'), {}, 0, 1
  while true do
    at = find(bare, '["{}%[%]]', at)
    if not at then
      return false
    end
    local mark = sub(bare, at, at)
    if mark == '"' then
      local ends = find(bare, '"', at + 1, true)
      if depth == 1 and find(bare, '^%s*:', ends + 1) then
        local name = decode_strictly('[' .. sub(text, at, ends) .. ']')[1]
        if seen[name] then
          return true
        end
        seen[name] = true
      end
      at = ends
    else
      depth = depth + ((mark == '{' or mark == '[') and 1 or -1)
    end
    at = at + 1
  end
end

-- Whether a number in `text` may begin or end with a point.
local function may_have_bare_point(text)
  local at = find(text, '.', 1, true)
  while at do
    if find(text, '^%d%.%D', at - 1) or find(text, '^%D%.%d', at - 1) then
      return true
    end
    at = find(text, '.', at + 1, true)
  end
end

-- Returns what is wrong with a JSON message, or with the header of a binary one, or nil.
local function json_complaint(text)
  if find(text, '\0', 1, true) then -- cjson reads no further
    return 'has a NUL byte, which JSON has nowhere'
  end
  local is_json, message = pcall(decode_strictly, text)
  if not is_json then
    return 'is not JSON of at most ' .. DEPTH_MAX .. ' levels: ' .. gsub(message, '^.-: ', '')
  end
  local may_repeat = find(text, '\\u', 1, true)
  for field in pairs(message) do
    if not FIELDS[field] then
      -- Clients of Redis read an error as text.
      return 'has an unknown field "' .. gsub(sub(field, 1, 32), '[^ -~]', '?') .. '"; fields are type, payload, timestamp, correlation_id'
    end
    local quoted = '"' .. field .. '"'
    local first = find(text, quoted, 1, true)
    may_repeat = may_repeat or not first or find(text, quoted, first + 1, true)
  end
  local kind, timestamp, id = message['type'], message.timestamp, message.correlation_id
  if type(kind) ~= 'string' or #kind > TYPE_BYTES_MAX or not find(kind, '^[%w_.:-]+$') then
    return 'has no type of 1 to ' .. TYPE_BYTES_MAX .. ' letters, digits and _ . : -'
  end
  if CONTROL_TYPES[kind] then
    return 'has the type ' .. kind .. ', which control frames use'
  end
  if timestamp and timestamp ~= cjson.null and not (type(timestamp) == 'string' and is_timestamp(timestamp)) then
    return 'has a timestamp that is not RFC 3339, such as 2026-11-20T12:00:00.000Z'
  end
  if id ~= nil and id ~= cjson.null and type(id) ~= 'string' then
    return 'has a correlation_id that is no string'
  end
  if may_repeat and has_duplicates(text) then
    return 'has a field twice'
  end
  if not find(text, '^[\32-\126]*$') or may_have_bare_point(text) then
    return character_complaint(text)
  end
end

-- Returns what is wrong with a message, or nil.
local function content_complaint(message)
  if byte(message) == BRACE then
    return json_complaint(message)
  end
  local high, low = byte(message, 2, 3)
  local length = low and high * 256 + low
  if not length or length + 3 > #message or length > HEADER_BYTES_MAX or byte(message, 4) ~= BRACE then
    return 'is no binary message: version 1, two bytes of header length, a JSON header of at most ' .. HEADER_BYTES_MAX
      .. ' bytes, and a payload'
  end
  local header = sub(message, 4, 3 + length)
  local wrong = json_complaint(header)
  if not wrong and decode_strictly(header).payload ~= nil then
    wrong = 'is binary and has a payload in its header'
  end
  return wrong
end
