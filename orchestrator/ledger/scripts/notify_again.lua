-- Purpose: schedule a job's notification again, from the first try. The job is kept meanwhile.
-- KEYS: 1 job, 2 events, 3 agenda
-- ARGV: 1 now ms
-- Returns: recorded | open (it has no outcome yet) | silent (its request names no receiver)
--   | missing
local now = ARGV[1]

local status, notify, lease = unpack(redis.call('HMGET', key.job, 'status', 'notify', 'notify.lease'))
if not status then
  return {'missing'}
end
if not TERMINAL[status] then
  return {'open'}
end
if not notify then
  return {'silent'}
end
local look = redis.call('ZSCORE', shard .. 'notify', job_id)
local leased = lease and look and tonumber(look) > tonumber(now)
if not leased then -- otherwise a worker sends it now
  set('notify.tries', 0, pending(now, 'notify'))
  redis.call('ZADD', shard .. 'notify', now, job_id)
  event(now, 'notify_again', '{}')
  redis.call('HDEL', key.job, 'notify.lease')
  redis.call('ZREM', shard .. 'dead', job_id)
  redis.call('PERSIST', key.job)
  redis.call('PERSIST', key.events)
end
return {'recorded'}
