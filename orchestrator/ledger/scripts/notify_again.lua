-- Purpose: schedule the notification of a job again, from the first try. The retention time of the job
--   stops until the notification ends.
-- KEYS: 1 job, 2 events, 3 agenda
-- ARGV: 1 now ms, 2 time ms: a notification that was scheduled then or later is left as it is ('' none)
-- Returns: recorded | duplicate (it was scheduled since then) | open (the job has no outcome yet)
--   | silent (its request asks for no notification) | missing
local now, since = ARGV[1], ARGV[2]

local status, notify, lease, again, settled = read_job('notify', 'notify.lease', 'notify.since',
  'settled')
if not status then
  return {'missing'}
end
if FLOWS[status] then
  return {'open'}
end
if not notify then
  return {'silent'}
end
local scheduled = again or settled
if since ~= '' and tonumber(scheduled) >= tonumber(since) then
  return {'duplicate'}
end
local lease_end = redis.call('ZSCORE', shard .. 'flow:notify:' .. job.tenant, job_id)
local leased = lease and lease_end and tonumber(lease_end) > tonumber(now)
if not leased then -- a leased notification is being sent now
  set('notify.tries', 0, pending_fields(now, 'notify'))
  follow('notify', now)
  add_event(now, 'notify_again', '{}')
  redis.call('HDEL', job_key, 'notify.lease')
  redis.call('ZREM', shard .. 'dead', job_id)
  redis.call('PERSIST', job_key)
  redis.call('PERSIST', events_key)
end
return {'recorded'}
