-- Purpose: delete a job that was settled before a time, with all its keys and entries. An entry in
--   `unconfirmed` stays, because the attempt may have been charged.
-- KEYS: 1 job, 2 events, 3 agenda
-- ARGV: 1 time ms, 2 tenant of a job that may be missing ('' unknown)
-- Returns: forgotten | kept (it is open, was settled later, or has a pending follow-up) | missing
local before, tenant = ARGV[1], ARGV[2]

local status, settled, archive, notify, confirm = read_job('settled', 'archive', 'notify', 'confirm')
if not status then
  redis.call('ZREM', shard .. 'jobs', job_id)
  redis.call('ZREM', shard .. 'jobs:' .. tenant, job_id)
  return {'missing'}
end
if FLOWS[status] or tonumber(settled) >= tonumber(before)
  or archive == 'pending' or notify == 'pending' or confirm == 'pending' then
  return {'kept'}
end
for attempt = 1, tonumber(job.attempt) do
  local task_id = get('task.' .. attempt)
  if task_id then
    redis.call('DEL', task_owner(attempt, task_id))
  end
end
redis.call('DEL', job_key, events_key, shard .. 'upload:' .. job_id)
redis.call('ZREM', shard .. 'jobs', job_id)
redis.call('ZREM', shard .. 'jobs:' .. job.tenant, job_id)
redis.call('ZREM', shard .. 'dead', job_id)
redis.call('ZREM', shard .. 'given_up', job_id)
return {'forgotten'}
