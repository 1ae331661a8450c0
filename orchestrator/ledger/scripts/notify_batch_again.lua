-- Purpose: schedule the notification of a completed batch again, from the first try. The retention time of
--   the batch stops until the notification ends. A notification that is being sent now is left as it is.
-- KEYS: 1 batch, 2 open batches
-- ARGV: 1 now ms, 2 batch id
-- Returns: recorded | open (the batch is not completed) | silent (it has no receiver) | missing
local now, id = ARGV[1], ARGV[2]

local created, completed, notify, lease = unpack(redis.call('HMGET', KEYS[1],
  'created', 'completed', 'notify', 'notify.lease'))
if not created then
  return {'missing'}
end
if not completed then
  return {'open'}
end
if not notify then
  return {'silent'}
end
local lease_end = redis.call('ZSCORE', KEYS[2], id)
if not (lease and lease_end and tonumber(lease_end) > tonumber(now)) then
  redis.call('HSET', KEYS[1], 'notify', 'pending', 'notify.since', now, 'notify.next', now, 'notify.tries', 0)
  redis.call('HDEL', KEYS[1], 'notify.lease')
  redis.call('ZADD', KEYS[2], now, id)
  redis.call('PERSIST', KEYS[1])
end
return {'recorded'}
