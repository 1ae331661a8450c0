-- Purpose: record a try to send the notification of a batch. It ends, or another try is planned. When it
--   ends, the retention time of the batch starts.
-- KEYS: 1 batch, 2 open batches
-- ARGV: 1 now ms, 2 batch id, 3 lease token, 4 status (pending: try again; done, dead or gone),
--       5 due at ms ('' unless pending), 6 tries ('' if nothing was tried), 7 error, 8 retention ms
-- Returns: recorded | stale (the caller does not hold the lease) | missing
local now, id, lease, state, due_at = ARGV[1], ARGV[2], ARGV[3], ARGV[4], ARGV[5]
local tries, error, retention = ARGV[6], ARGV[7], ARGV[8]

local created, holder = unpack(redis.call('HMGET', KEYS[1], 'created', 'notify.lease'))
if not created then
  return {'missing'}
end
if holder ~= lease then
  return {'stale'}
end
redis.call('HSET', KEYS[1], 'notify', state)
if tries ~= '' then
  redis.call('HSET', KEYS[1], 'notify.tries', tries, 'notify.tried', now, 'notify.error', error)
end
redis.call('HDEL', KEYS[1], 'notify.lease')
if state == 'pending' then
  redis.call('HSET', KEYS[1], 'notify.next', due_at)
  redis.call('ZADD', KEYS[2], due_at, id)
else
  redis.call('HDEL', KEYS[1], 'notify.next')
  redis.call('ZREM', KEYS[2], id)
  redis.call('PEXPIRE', KEYS[1], retention)
end
return {'recorded'}
