-- Purpose: record that no further job joins a batch, and what its request was answered. The batch is due
--   at once: its last job may have ended before.
-- KEYS: 1 batch, 2 open batches, 3 answer
-- ARGV: 1 now ms, 2 batch id, 3 answer ('' none), 4 lifetime of the answer ms
-- Returns: recorded | duplicate (it was sealed before; the first answer stands) | missing
local now, id, answer, lifetime = ARGV[1], ARGV[2], ARGV[3], ARGV[4]

if redis.call('EXISTS', KEYS[1]) == 0 then
  return {'missing'}
end
if redis.call('HGET', KEYS[1], 'sealed') then
  return {'duplicate'}
end
redis.call('HSET', KEYS[1], 'sealed', now)
redis.call('ZADD', KEYS[2], now, id)
if answer ~= '' then
  redis.call('SET', KEYS[3], answer, 'PX', lifetime)
end
return {'recorded'}
