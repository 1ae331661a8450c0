-- Purpose: take the lease on the due notification of a batch.
-- KEYS: 1 batch, 2 open batches
-- ARGV: 1 now ms, 2 batch id, 3 lease token, 4 end of the lease ms
-- Returns: claimed, the fields of the batch | not_due | missing
-- A repeated call with the same token returns claimed again.
local now, id, lease, lease_end = ARGV[1], ARGV[2], ARGV[3], ARGV[4]

local created, notify, holder = unpack(redis.call('HMGET', KEYS[1], 'created', 'notify', 'notify.lease'))
if not created then
  redis.call('ZREM', KEYS[2], id)
  return {'missing'}
end
if holder ~= lease then
  local due = redis.call('ZSCORE', KEYS[2], id)
  if notify ~= 'pending' or not due or tonumber(due) > tonumber(now) then
    return {'not_due'}
  end
  redis.call('HSET', KEYS[1], 'notify.lease', lease)
  redis.call('ZADD', KEYS[2], lease_end, id)
end
return {'claimed', redis.call('HGETALL', KEYS[1])}
