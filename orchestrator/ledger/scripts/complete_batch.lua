-- Purpose: record that every job of a sealed batch has its outcome. Its notification is due now. Without
--   one, the retention time of the batch starts. A sealed batch with an open job is due again later.
-- KEYS: 1 batch, 2 open batches
-- ARGV: 1 now ms, 2 batch id, 3 jobs of all shards by status JSON ('' a job is open), 4 next check ms,
--       5 retention ms, 6 channel for those who wait for the batch,
--       7 '1' if nobody can seal the batch any more, because its idempotency key has expired
-- Returns: recorded | open | duplicate (it was completed before) | missing
local now, id, counts, due_at, retention = ARGV[1], ARGV[2], ARGV[3], ARGV[4], ARGV[5]
local channel, abandoned = ARGV[6], ARGV[7]

local created, sealed, completed, notify = unpack(redis.call('HMGET', KEYS[1],
  'created', 'sealed', 'completed', 'notify'))
if not created then
  redis.call('ZREM', KEYS[2], id)
  return {'missing'}
end
if completed then
  return {'duplicate'}
end
if not sealed and abandoned == '' then
  return {'open'}
end
if not sealed then
  redis.call('HSET', KEYS[1], 'sealed', now)
end
if counts == '' then
  redis.call('ZADD', KEYS[2], due_at, id)
  return {'open'}
end
redis.call('HSET', KEYS[1], 'completed', now, 'counts', counts)
if notify then
  redis.call('HSET', KEYS[1], 'notify', 'pending', 'notify.since', now, 'notify.next', now)
  redis.call('ZADD', KEYS[2], now, id)
else
  redis.call('ZREM', KEYS[2], id)
  redis.call('PEXPIRE', KEYS[1], retention)
end
-- A user without channels may not publish. Whoever waits looks again after some seconds.
redis.pcall('PUBLISH', channel, 'completed')
return {'recorded'}
