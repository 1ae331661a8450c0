-- Follow-ups of a version that had one sorted set for all tenants. The loader puts this file before the
-- scripts that need it.

-- Put the follow-ups that are due first into the flows of their tenants. Drops the ones that have ended.
local function move_follow_ups(root, name)
  local MOVED = 500 -- of each sweep
  local entries = redis.call('ZRANGE', root .. name, 0, MOVED - 1, 'WITHSCORES')
  for i = 1, #entries, 2 do
    local id, due = entries[i], entries[i + 1]
    local state, tenant = unpack(redis.pcall('HMGET', root .. 'job:' .. id, name, 'tenant'))
    tenant = tenant or 'default'
    local expires = name == 'archive' and redis.call('ZSCORE', root .. 'expiring', id)
    if state == 'pending' then
      redis.call('ZADD', root .. 'flow:' .. name .. ':' .. tenant, 'NX', due, id)
      redis.call('ZADD', root .. 'flows:' .. name, 'LT', due, tenant)
    end
    if state == 'pending' and expires then
      redis.call('ZADD', root .. 'expiring:' .. tenant, 'NX', expires, id)
    end
    if expires then
      redis.call('ZREM', root .. 'expiring', id)
    end
    redis.call('ZREM', root .. name, id)
  end
end
