-- Purpose: keep a bulk action that was previewed. The oldest previews of its tenant over the limit are
--   deleted. The jobs are stored before.
-- KEYS: 1 bulk action, 2 its parts, 3 bulk actions of its tenant
-- ARGV: 1 id, 2 now ms, 3 fields (JSON list: name, value, ...), 4 lifetime ms, 5 lifetime of the list of
--   the tenant ms, 6 most previews of the tenant
-- Returns: saved
local id, now, fields, lifetime = ARGV[1], ARGV[2], ARGV[3], ARGV[4]
local list_lifetime, most = ARGV[5], tonumber(ARGV[6])

local root = string.match(KEYS[1], '^.-}:')
redis.call('HSET', KEYS[1], unpack(cjson.decode(fields)))
redis.call('PEXPIRE', KEYS[1], lifetime)
redis.call('PEXPIRE', KEYS[2], lifetime)
redis.call('ZADD', KEYS[3], now, id)
redis.call('PEXPIRE', KEYS[3], list_lifetime)

local previews = {}
for _, each in ipairs(redis.call('ZRANGE', KEYS[3], 0, -1)) do
  local created, started = unpack(redis.call('HMGET', root .. 'bulk:' .. each, 'created', 'started'))
  if not created then -- it has expired
    redis.call('ZREM', KEYS[3], each)
  elseif not started then
    previews[#previews + 1] = each
  end
end
for number = 1, #previews - most do
  local old = previews[number]
  redis.call('DEL', root .. 'bulk:' .. old, root .. 'bulk_parts:' .. old)
  redis.call('ZREM', KEYS[3], old)
end
return {'saved'}
