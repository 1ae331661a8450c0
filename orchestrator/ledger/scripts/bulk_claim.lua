-- Purpose: take the next part of the bulk action that has waited longest. An action whose worker died
--   is due again at the end of the lease.
-- KEYS: 1 started bulk actions
-- ARGV: 1 now ms, 2 lease token, 3 end of the lease ms
-- Returns: claimed, id, the fields of the bulk action, the jobs of the part | not_due
local now, lease, lease_end = ARGV[1], ARGV[2], ARGV[3]

local root = string.match(KEYS[1], '^.-}:')
for _, id in ipairs(redis.call('ZRANGEBYSCORE', KEYS[1], '-inf', now, 'LIMIT', 0, 20)) do
  local key = root .. 'bulk:' .. id
  local part = redis.call('HGET', key, 'part')
  if part then
    redis.call('HSET', key, 'lease', lease)
    redis.call('HSETNX', key, 'claimed', now)
    redis.call('ZADD', KEYS[1], lease_end, id)
    local jobs = redis.call('HGET', root .. 'bulk_parts:' .. id, part)
    return {'claimed', id, redis.call('HGETALL', key), jobs or ''}
  end
  redis.call('ZREM', KEYS[1], id) -- it has expired
end
return {'not_due'}
